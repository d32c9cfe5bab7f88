"""Follows a run, a goalpost or a question until the run ends: redraws a window, or prints a line a change into a pipe."""

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
from events.facts.log import Event, ReadableLog, read_facts
from events.facts.questions import readable_question
from events.facts.streams import RUN
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EvaluationFinished,
    IterationFinished,
    PolicyUpdated,
    RunFinished,
    RunResumed,
)
from events.facts.values import QuestionId
from events.index.location import open_index
from events.index.rows import AttemptsEntry
from events.process.console import RaisingConsole
from events.projections.goalpost_history import episode_detail, episode_histories
from events.projections.run_summary import RunSummary
from events.reports.run_overview import overview_json
from events.terminal import run as runs
from events.terminal.drawing import print_drawn
from events.terminal.goalpost import episode_branch
from events.text.phrases import count_text, counted, number, words
from events.text.safe_text import clean, one_line

REFRESH_S = 1.0
"""Seconds between two redraws of a window, at least."""


def follow_run(log: ReadableLog, where: str, *, whole: bool = False, as_json: bool = False) -> None:
    """Show the overview, and show it anew while the run is played."""
    summary = runs.load_summary(log, where)
    console = RaisingConsole(highlight=False)
    if console.is_terminal and not as_json:
        _redraw(log, where, summary, console, whole=whole)
        return
    _print(overview_json(summary), runs.draw_run(summary, where, whole=whole), as_json=as_json)
    for event in follow(log, after=summary.position, stop=lambda: summary.finished):
        summary.apply(event)
        if (line := _progress_line(event, summary)) is not None:
            _print(overview_json(summary), line, as_json=as_json)


def _redraw(log: ReadableLog, where: str, summary: RunSummary, console: RaisingConsole, *, whole: bool) -> None:
    position, time = summary.position, monotonic()

    def redraw_if_due() -> bool:
        nonlocal position, time
        if summary.position > position and (monotonic() - time >= REFRESH_S or summary.finished):
            live.update(runs.draw_run(summary, where, whole=whole), refresh=True)
            position, time = summary.position, monotonic()
        return summary.finished

    with Live(runs.draw_run(summary, where, whole=whole), console=console, auto_refresh=False) as live:
        for event in follow(log, after=summary.position, stop=redraw_if_due):
            summary.apply(event)
        redraw_if_due()


def _progress_line(event: Event, summary: RunSummary) -> Text | None:
    """What the event completes; None where it completes nothing that the overview shows."""
    match event.fact:
        case IterationFinished(iteration=iteration):
            figures = summary.iterations[iteration]
            gap, reward = number(figures.gap.value), number(figures.student_reward.value)
            accepted = f"{figures.seats['easy'].accepted} lemmas, {figures.seats['hard'].accepted} lifts"
            return Text(f"iteration {iteration}: gap {gap}, reward {reward}, {accepted}, {figures.tokens} tokens")
        case PolicyUpdated(policy=policy, iteration=iteration, digest=digest):
            return Text(f"{one_line(policy, 16)} learned from iteration {iteration}: {clean(digest)[:SHORT]}")
        case EvaluationFinished() as fact:
            shares = ", ".join(f"@{k} {share:.3f}" for k, share in sorted(fact.pass_at.items()))
            return Text(f"evaluation {one_line(fact.name, 20)} after iteration {fact.iteration}: pass {shares}")
        case RunResumed():
            return Text("the run goes on")
        case RunFinished(iterations=iterations):
            return Text(f"the run is finished, after {counted(iterations, 'iteration')}")
        case _:
            return None


def follow_goalpost(
    log: ReadableLog, where: str, goalpost: QuestionId, *, after: int, diff: bool = False, as_json: bool = False
) -> None:
    """Show episodes of a goalpost behind position `after` when they end, and evaluations of it."""
    for event in _until_run_ends(log, after, ("episode_finished", "episode_failed", "evaluation_finished")):
        if isinstance(event.fact, EvaluationFinished):
            fact = event.fact
            if goalpost in fact.successes:
                counts = {"successes": fact.successes[goalpost], "attempts": fact.attempts}
                data = {"evaluation": {"stream": event.stream, "iteration": fact.iteration, **counts}}
                passed = f"{fact.successes[goalpost]} of {fact.attempts} answers passed"
                _print(data, Text(f"evaluation after iteration {fact.iteration}: {passed}"), as_json=as_json)
            continue
        with open_index(log, where) as index:
            row = index.goalpost(goalpost)
            histories = episode_histories(index, goalpost, index.gaps(goalpost), limit=row.episodes if row else 0)
            for episode in histories:
                if episode.stream == event.stream:
                    detail = episode_detail(log, index, episode, list(read_facts(log, PolicyUpdated)))
                    question = readable_question(log, row.blob if row else None)
                    _print({"episode": asdict(detail)}, episode_branch(detail, question, log, diff=diff), as_json=as_json)


def follow_question(
    log: ReadableLog,
    question: QuestionId,
    *,
    after: int,
    unverified: dict[tuple[str, int], AttemptsMade | AttemptsEntry],
    as_json: bool = False,
) -> None:
    """Show answers to a question behind position `after`, and the `unverified` before it, when they are verified."""
    for event in _until_run_ends(log, after, ("attempts_made", "attempts_verified")):
        match event.fact:
            case AttemptsMade() as fact if fact.question == question:
                unverified[event.stream, event.version] = fact
            case AttemptsVerified(of=of, verdicts=verdicts) if (event.stream, of) in unverified:
                made = unverified.pop((event.stream, of))
                outcomes: dict[str, int] = dict(Counter(verdict.outcome for verdict in verdicts))
                data = {"stream": event.stream, "version": of, "purpose": made.purpose, "task": made.task, "outcomes": outcomes}
                text = f"{one_line(event.stream)}:{of} {words(made.purpose)} as {made.task}: {count_text(outcomes)}"
                _print({"answers": data}, Text(text), as_json=as_json)


def _until_run_ends(log: ReadableLog, after: int, kinds: tuple[str, ...]) -> Iterator[Event]:
    ends = "run_finished", "run_resumed"
    last = [event.fact.kind for event in log.read(RUN, kinds=ends) if event.position <= after][-1:]
    for event in follow(log, after=after, kinds=(*kinds, *ends), stop=lambda: last == ["run_finished"]):
        if event.fact.kind in ends:
            last[:] = [event.fact.kind]
        else:
            yield event


def _print(data: dict[str, Any], drawn: RenderableType, *, as_json: bool) -> None:
    if as_json:
        print_json(data)
        sys.stdout.flush()
    else:
        print_drawn(drawn)
