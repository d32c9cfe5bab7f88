"""Progress of an experiment: a table on a terminal, elsewhere a line for each change of a run and every `LOG_INTERVAL_S`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, get_args

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from events.process.activity import LOG_INTERVAL_S
from trainer.experiments.runs import RunProcess, RunState

STATE_ORDER: Final[tuple[RunState, ...]] = get_args(RunState)
"""States in the order of the table: a small window cuts the last."""


@contextmanager
def progress(console: Console, runs: Sequence[RunProcess]) -> Iterator[Callable[[], None]]:
    """Show runs; yields a function to call when they may have changed."""
    if not console.is_terminal:
        yield _LinePrinter(console, runs).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(live_table(runs), refresh=True)


class _LinePrinter:
    def __init__(self, console: Console, runs: Sequence[RunProcess]) -> None:
        self._console, self._runs = console, runs
        self._printed: dict[str, str] = {}
        self._latest = time.monotonic()

    def show(self) -> None:
        for run in self._runs:
            line = describe_run(run)
            if run.state != "waiting" and self._printed.get(run.cell.run) != line:
                self._printed[run.cell.run] = line
                self._print(line)
        if time.monotonic() - self._latest > LOG_INTERVAL_S:
            for run in self._runs:
                if run.last_line:
                    self._print(f"{describe_run(run)}; {run.last_line}")

    def _print(self, line: str) -> None:
        self._latest = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def describe_run(run: RunProcess) -> str:
    """State and progress of a run, on one line."""
    return f"{run.cell.recipe} seed {run.cell.seed}: {run.state}, {', '.join(_figures(run))}"


def live_table(runs: Sequence[RunProcess]) -> Group:
    """The table on a terminal."""
    counts = Counter(run.state for run in runs)
    head = ", ".join(f"{counts[state]} {state}" for state in STATE_ORDER if counts[state])
    table = Table("recipe", "seed", "state", "played", "made", "doing", box=None, pad_edge=False, header_style="bold")
    for run in sorted(runs, key=lambda run: STATE_ORDER.index(run.state)):
        doing = Text(run.last_line, no_wrap=True, overflow="ellipsis")
        table.add_row(run.cell.recipe, str(run.cell.seed), run.state, *_figures(run), doing)
    return Group(Text(f"{len(runs)} runs: {head}", style="bold"), table)


def _figures(run: RunProcess) -> tuple[str, str]:
    play, made = run.config.play, run.samples.after[run.iteration]
    of = f" of {play.samples:,}" if play.samples else ""
    most = f"{'at most ' if play.samples else ''}{play.iterations}"
    return f"iteration {run.iteration} of {most}", f"{made:,}{of} samples of the student"
