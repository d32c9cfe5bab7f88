"""A whole run in the terminal: its overview, and what to type next.

Law: the figures are those of `events.reports.run_overview`; where a log is long, they start from the snapshot that lies beside
its index.
"""

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
    """The run's figures; of a long log not without showing how far it is."""
    with progress("reading") as say:
        return Snapshot(index_path(where).with_suffix(".summary.json"), RunSummary).fold(log, say)


def draw_run(summary: RunSummary, where: str, *, whole: bool = False) -> RenderableType:
    """The run, from its first sentence to the next commands."""
    return Group(overview(summary, run_name(where), whole=whole), "", next_commands(where, _deeper(summary, whole)))


def _deeper(summary: RunSummary, whole: bool) -> list[tuple[str, str, str]]:
    commands = []
    order, passed = nearest_goalposts(summary), solved_goalposts(summary)
    first = next((question for question in order if question in passed), None)
    examined = {question for found in summary.evaluations for question in found.successes}
    tried = (question for question in order if question in examined or summary.goalposts[question].measured)
    other = next((question for question in tried if question not in passed), None)
    if first is not None:
        commands.append(("why a goalpost was solved", "events.trace", clean(first)[:SHORT]))
    if other is not None:
        commands.append(("why one was not", "events.trace", clean(other)[:SHORT]))
    if not whole:
        commands.append(("every row of the tables", "events.trace", "--all"))
    if not summary.finished:
        commands.append(("watch it play", "events.trace", "--follow"))
    query = "kind:lemma accepted:yes" if summary.lemmas else "kind:answers passrate>0.9"
    commands.append(("find questions and answers", "events search", f"'{query}'"))
    return [*commands, ("the same in the browser", "events.web", "")]
