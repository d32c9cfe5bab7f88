"""`python -m events.trace RUN [QUESTION]`: shows what happened in a run, to a question, or in one attempt."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from events.cli.app import open_run, run_app
from events.cli.output import LARGEST, progress
from events.facts.errors import BadInput
from events.facts.log import ReadableLog
from events.terminal.drawing import print_drawn

EPISODES = 5
"""Latest episodes of a goalpost that are shown by default."""

# What draws a run, a question or an attempt is imported where it is drawn: importing all takes longer than drawing one.
app = typer.Typer(name="python -m events.trace", add_completion=False)


@app.command()
def trace(
    where: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a run, its log.sqlite, or a postgresql:// URL.")],
    prefix: Annotated[
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
    ] = EPISODES,
    whole: Annotated[bool, typer.Option("--all", help="Show every episode and every row.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Compare every variant with its parent, however long.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until the run ends or Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a run and what to look at next; why a goalpost was or was not solved; any other question; or one attempt."""
    if attempt is None and answers is not None:
        raise BadInput("--answers says which answers --attempt counts among; give --attempt N as well, from 0.")
    with closing(open_run(where, read_only=True)) as log:
        if attempt is not None:
            if follow:
                raise BadInput("An attempt does not change any more; leave out --follow.")
            _trace_attempt(log, where, prefix, attempt, answers, as_json=as_json)
        elif prefix is None and follow:
            from events.terminal import following

            following.follow_run(log, where, whole=whole, as_json=as_json)
        elif prefix is None:
            from events.reports.run_overview import overview_json
            from events.terminal import run

            summary = run.load_summary(log, where)
            _print(lambda: overview_json(summary), lambda: run.draw_run(summary, where, whole=whole), as_json=as_json)
        else:
            _trace_question(log, where, prefix, most=None if whole else episodes, diff=diff, follow=follow, as_json=as_json)


def _trace_question(
    log: ReadableLog, where: str, prefix: str, *, most: int | None, diff: bool, follow: bool, as_json: bool
) -> None:
    from events.index.location import open_index
    from events.terminal import following, goalpost, question

    with progress("indexing") as on_progress, open_index(log, where, on_progress) as index:
        name, after = question.find_question(index, prefix), index.position
        is_goalpost = index.goalpost(name) is not None
        if is_goalpost:
            goal = goalpost.goalpost_view(log, index, name, episodes=most)
            drawn = partial(goalpost.draw_goalpost, goal, log, where, diff=diff)
            _print(lambda: goal.data, drawn, as_json=as_json, lines=follow)
        else:
            view = question.question_view(log, index, name)
            drawn = partial(question.draw_question, view, where, whole=most is None, diff=diff)
            _print(lambda: view.data, drawn, as_json=as_json, lines=follow)
    if follow and is_goalpost:
        following.follow_goalpost(log, where, name, after=after, diff=diff, as_json=as_json)
    elif follow:
        unverified = {(entry.stream, entry.version): entry for entry in view.answers if not entry.outcomes}
        following.follow_question(log, name, after=after, unverified=dict(unverified), as_json=as_json)


def _trace_attempt(
    log: ReadableLog, where: str, prefix: str | None, number: int, answers: str | None, *, as_json: bool
) -> None:
    from events.index.location import open_index
    from events.projections.completion_detail import completion_detail
    from events.terminal import attempt as attempts
    from events.terminal import question

    if answers is not None:
        (stream, version), among = attempts.parse_answers_name(answers), ""
    elif prefix is not None:
        with progress("indexing") as on_progress, open_index(log, where, on_progress) as index:
            stream, version, among = attempts.latest_answers(index, question.find_question(index, prefix))
    else:
        raise BadInput("--attempt needs a question, or --answers STREAM:VERSION; leave it out to see the run.")
    detail = completion_detail(log, where, stream, version, number)
    if prefix is not None and not detail.asked.startswith(prefix):
        about = f"{stream}:{version} is about question {detail.asked}, not {prefix}"
        raise BadInput(f"The prompt {about}; leave the question or --answers out.")
    _print(lambda: attempts.attempt_json(detail), lambda: attempts.draw_attempt(detail, where, among), as_json=as_json)


def _print(data: Callable[[], Any], drawn: Callable[[], RenderableType], *, as_json: bool, lines: bool = False) -> None:
    """Print JSON, on one line if `lines`, or what is drawn for people."""
    if as_json:
        json.dump(data(), sys.stdout, indent=None if lines else 2)
        sys.stdout.write("\n")
        sys.stdout.flush()
    else:
        print_drawn(drawn())


if __name__ == "__main__":
    run_app(app)
