"""`python -m events.trace RUN [QUESTION]`: what happened in a run, to a question, or in one attempt, for people.

Law: a reader of the log and nothing else; text that a model or the outside wrote is shown without control characters and
without markup. It judges and repairs nothing. What it shows is in `events.terminal`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from events.cli.app import open_run, run_app
from events.cli.output import LARGEST, progress
from events.facts.errors import BadInput
from events.facts.log import ReadableLog
from events.index.location import open_index
from events.projections.answer_detail import completion_detail
from events.reports.run_overview import overview_json
from events.terminal import attempt as attempts
from events.terminal import following, goalpost, question, run
from events.terminal.drawing import print_drawn

app = typer.Typer(name="python -m events.trace", add_completion=False)


@app.command()
def trace(
    where: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a run, its log.sqlite, or a postgresql:// URL.")],
    asked: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="Id of a goalpost or of any question, or its first digits.")
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST, metavar="N", help="One attempt: the N-th of the question's latest answers, from 0."),
    ] = None,
    answers: Annotated[
        str | None, typer.Option(metavar="STREAM:VERSION", help="Which answers N counts among; traces of questions list them.")
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="Of a goalpost, show so many episodes, the latest.")
    ] = goalpost.EPISODES,
    whole: Annotated[bool, typer.Option("--all", help="Show every episode and every row.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Compare every variant with its parent, however long.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until the run ends or Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a run and what to look at next; why a goalpost was or was not solved; any other question; or one attempt."""
    if attempt is None and answers is not None:
        raise BadInput("--answers says which answers --attempt counts among; give --attempt N as well, from 0")
    with closing(open_run(where, read_only=True)) as log:
        if attempt is not None:
            if follow:
                raise BadInput("an attempt does not change any more; leave out --follow")
            _trace_attempt(log, where, asked, attempt, answers, as_json=as_json)
        elif asked is None and follow:
            following.follow_run(log, where, whole=whole, as_json=as_json)
        elif asked is None:
            summary = run.load_summary(log, where)
            _print(lambda: overview_json(summary), lambda: run.draw_run(summary, where, whole=whole), as_json=as_json)
        else:
            _trace_question(log, where, asked, most=None if whole else episodes, diff=diff, follow=follow, as_json=as_json)


def _trace_question(
    log: ReadableLog, where: str, asked: str, *, most: int | None, diff: bool, follow: bool, as_json: bool
) -> None:
    with progress("indexing") as say, open_index(log, where, say) as index:
        found, after = question.find_question(index, asked), index.position
        if index.goalpost(found) is not None:
            told = goalpost.goalpost_view(log, index, found, episodes=most)
            _print(
                lambda: told.data, lambda: goalpost.draw_goalpost(told, log, where, diff=diff), as_json=as_json, lines=follow
            )
            waiting = None
        else:
            seen = question.question_view(log, index, found)
            all_rows = most is None
            _print(
                lambda: seen.data,
                lambda: question.draw_question(seen, where, whole=all_rows, diff=diff),
                as_json=as_json,
                lines=follow,
            )
            waiting = {(one.stream, one.version): one.position for one in seen.answers if not one.outcomes}
    if follow and waiting is None:
        following.follow_goalpost(log, found, after=after, diff=diff, as_json=as_json)
    elif follow and waiting is not None:
        following.follow_question(log, found, after=after, waiting=waiting, as_json=as_json)


def _trace_attempt(log: ReadableLog, where: str, asked: str | None, number: int, answers: str | None, *, as_json: bool) -> None:
    if answers is not None:
        stream, version = attempts.parse_answers_name(answers)
        among = ""
    elif asked is not None:
        with progress("indexing") as say, open_index(log, where, say) as index:
            stream, version, among = attempts.latest_answers(index, question.find_question(index, asked))
    else:
        raise BadInput("--attempt needs a question, or --answers STREAM:VERSION; leave it out to see the run")
    story = completion_detail(log, where, stream, version, number)
    if asked is not None and not story.asked.startswith(asked):
        raise BadInput(f"{stream}:{version} is about question {story.asked}, not {asked}; leave the question or --answers out")
    _print(lambda: attempts.attempt_json(story), lambda: attempts.draw_attempt(story, where, among), as_json=as_json)


def _print(data: Callable[[], Any], shown: Callable[[], RenderableType], *, as_json: bool, lines: bool = False) -> None:
    if as_json:
        json.dump(data(), sys.stdout, indent=None if lines else 2)
        sys.stdout.write("\n")
        sys.stdout.flush()
    else:
        print_drawn(shown())


if __name__ == "__main__":
    run_app(app)
