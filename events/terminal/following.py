"""A run, a goalpost or a question while it changes.

Law: nothing is missed and nothing is told twice, because it follows positions of the log. In a window the overview is drawn
anew; into a pipe go lines, each as soon as it is known. It ends with the run, or with Ctrl-C.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from time import monotonic
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from events.cli.output import print_json
from events.facts.digests import SHORT
from events.facts.follow import follow
from events.facts.log import Event, ReadableLog, first_event
from events.facts.streams import RUN
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    IterationFinished,
    PolicyUpdated,
    RunFinished,
    RunResumed,
)
from events.facts.values import QuestionId
from events.process.console import RaisingConsole
from events.projections.goalpost_history import episode_history
from events.projections.run_summary import RunSummary
from events.reports.run_overview import count_text, number, overview_json
from events.terminal import run as runs
from events.terminal.drawing import print_drawn
from events.terminal.goalpost import episode_branch, read_question
from events.text.safe_text import clean, one_line

REFRESH_S = 1.0
"""How often a window is drawn anew at most."""


def follow_run(log: ReadableLog, where: str, *, whole: bool = False, as_json: bool = False) -> None:
    """The overview, again and again."""
    summary = runs.load_summary(log, where)
    console = RaisingConsole(highlight=False)
    if console.is_terminal and not as_json:
        _window(log, where, summary, console, whole=whole)
        return
    _first(summary, where, whole=whole, as_json=as_json)
    for event in follow(log, after=summary.position, stop=lambda: summary.finished):
        summary.apply(event)
        line = _line(event, summary)
        if line is not None and as_json:
            _json(overview_json(summary))
        elif line is not None:
            print_drawn(line)


def _first(summary: RunSummary, where: str, *, whole: bool, as_json: bool) -> None:
    if as_json:
        _json(overview_json(summary))
    else:
        print_drawn(runs.draw_run(summary, where, whole=whole))


def _window(log: ReadableLog, where: str, summary: RunSummary, console: RaisingConsole, *, whole: bool) -> None:
    drawn = summary.position, monotonic()

    def look() -> bool:
        """Draw anew what has moved; whether that is the end."""
        nonlocal drawn
        if summary.position > drawn[0] and (monotonic() - drawn[1] >= REFRESH_S or summary.finished):
            live.update(runs.draw_run(summary, where, whole=whole), refresh=True)
            drawn = summary.position, monotonic()
        return summary.finished

    with Live(runs.draw_run(summary, where, whole=whole), console=console, auto_refresh=False) as live:
        for event in follow(log, after=summary.position, stop=look):
            summary.apply(event)
        look()


def _line(event: Event, summary: RunSummary) -> Text | None:
    """What the event completes, in a line; None where it completes nothing that the overview shows."""
    match event.fact:
        case IterationFinished(iteration=number_):
            figures = summary.iterations[number_]
            gap, reward = number(figures.gap.value), number(figures.student_reward.value)
            made = f"{figures.seats['easy'].accepted} lemmas, {figures.seats['hard'].accepted} lifts"
            return Text(f"iteration {number_}: gap {gap}, reward {reward}, {made}, {figures.tokens} tokens")
        case PolicyUpdated(policy=policy, iteration=number_, digest=digest):
            return Text(f"{one_line(policy, 16)} learned from iteration {number_}: {clean(digest)[:SHORT]}")
        case EvaluationFinished() as fact:
            shares = ", ".join(f"@{k} {share:.3f}" for k, share in sorted(fact.pass_at.items()))
            return Text(f"examination {one_line(fact.name, 20)} after iteration {fact.iteration}: pass {shares}")
        case RunResumed():
            return Text("the run goes on")
        case RunFinished(iterations=iterations):
            return Text(f"the run is finished, after {iterations} iterations")
        case _:
            return None


def follow_goalpost(log: ReadableLog, asked: QuestionId, *, after: int, diff: bool = False, as_json: bool = False) -> None:
    """New episodes of a goalpost, each when it ends, and what examinations find."""
    kinds = ("episode_finished", "episode_failed", "evaluation_finished")
    for event in _while_it_plays(log, after, kinds):
        match event.fact:
            case EpisodeFinished() | EpisodeFailed():
                first = first_event(log, event.stream)
                started = None if first is None else first.fact
                if isinstance(started, EpisodeStarted) and (started.question, started.purpose) == (asked, "guided"):
                    told = episode_history(log, event.stream)
                    branch = episode_branch(told, read_question(log, started.blob), log, diff=diff)
                    _say({"episode": asdict(told)}, branch, as_json=as_json)
            case EvaluationFinished(successes=successes, attempts=attempts, iteration=iteration) if asked in successes:
                found = {"stream": event.stream, "iteration": iteration, "successes": successes[asked], "attempts": attempts}
                text = f"examination after iteration {iteration}: {successes[asked]} of {attempts} answers passed"
                _say({"examination": found}, Text(text), as_json=as_json)
            case _:
                pass


def follow_question(
    log: ReadableLog, asked: QuestionId, *, after: int, waiting: dict[tuple[str, int], int], as_json: bool = False
) -> None:
    """New answers to a question, when they are verified.

    Args:
        log: the log.
        asked: the question.
        after: where to begin.
        waiting: positions, by stream and version, of answers that are not verified yet.
        as_json: whether to print JSON.
    """
    for event in _while_it_plays(log, after, ("attempts_made", "attempts_verified")):
        match event.fact:
            case AttemptsMade(question=follow_question) if follow_question == asked:
                waiting[event.stream, event.version] = event.position
            case AttemptsVerified(of=of, verdicts=verdicts) if (event.stream, of) in waiting:
                made = next(log.read(after=waiting.pop((event.stream, of)) - 1, limit=1)).fact
                assert isinstance(made, AttemptsMade)
                outcomes: dict[str, int] = dict(Counter(verdict.outcome for verdict in verdicts))
                found = {
                    "stream": event.stream,
                    "version": of,
                    "purpose": made.purpose,
                    "task": made.task,
                    "outcomes": outcomes,
                }
                text = f"{one_line(event.stream)}:{of} {made.purpose.replace('_', ' ')} as {made.task}: {count_text(outcomes)}"
                _say({"answers": found}, Text(text), as_json=as_json)
            case _:
                pass


def _while_it_plays(log: ReadableLog, after: int, kinds: tuple[str, ...]) -> Iterator[Event]:
    ends = "run_finished", "run_resumed"
    last = [event.fact.kind for event in log.read(RUN, kinds=ends) if event.position <= after][-1:]
    for event in follow(log, after=after, kinds=(*kinds, *ends), stop=lambda: last == ["run_finished"]):
        if event.fact.kind in ends:
            last[:] = [event.fact.kind]
        else:
            yield event


def _say(data: dict[str, Any], shown: RenderableType, *, as_json: bool) -> None:
    if as_json:
        _json(data)
    else:
        print_drawn(shown)


def _json(data: dict[str, Any]) -> None:
    print_json(data)
    sys.stdout.flush()
