"""Draws a run in the terminal: its overview, and what to type next."""

from __future__ import annotations

from rich.console import Group, RenderableType

from events.cli.app import run_name
from events.cli.output import progress
from events.facts.digests import SHORT
from events.facts.log import ReadableLog
from events.index.location import index_path
from events.projections.run_summary import RunSummary
from events.projections.snapshots import Snapshot
from events.reports.run_overview import nearest_goalposts, overview, solved_goalposts
from events.terminal.drawing import next_commands
from events.text.safe_text import clean


def load_summary(log: ReadableLog, where: str) -> RunSummary:
    """The run's summary, from the snapshot beside the log's index on; shows progress."""
    with progress("reading") as on_progress:
        return Snapshot(index_path(where).with_suffix(".summary.json"), RunSummary).fold(log, on_progress)


def draw_run(summary: RunSummary, where: str, *, whole: bool = False) -> RenderableType:
    """The overview, every row of its tables if `whole`, and the next commands."""
    return Group(overview(summary, run_name(where), whole=whole), "", next_commands(where, _next(summary, whole)))


def _next(summary: RunSummary, whole: bool) -> list[tuple[str, str, str]]:
    commands = []
    order, solved = nearest_goalposts(summary), solved_goalposts(summary)
    evaluated = {question for evaluation in summary.evaluations for question in evaluation.successes}
    tried = [question for question in order if question in evaluated or summary.goalposts[question].measured]
    for what, is_solved in (("why a goalpost was solved", True), ("why one was not", False)):
        example = next((question for question in tried if (question in solved) == is_solved), None)
        if example is not None:
            commands.append((what, "events.trace", clean(example)[:SHORT]))
    if not whole:
        commands.append(("every row of the tables", "events.trace", "--all"))
    if not summary.finished:
        commands.append(("watch it play", "events.trace", "--follow"))
    query = "kind:lemma accepted:yes" if summary.lemmas else "kind:answers passrate>0.9"
    commands.append(("find questions and answers", "events search", f"'{query}'"))
    return [*commands, ("the same in the browser", "events.web", "")]
