"""How an experiment goes, for people: a line a run, live on a terminal, and else when it changed and every half minute."""

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
"""What a small window still shows comes first."""


@contextmanager
def progress(console: Console, runs: Sequence[RunProcess]) -> Iterator[Callable[[], None]]:
    """Show runs; gives what to call when they may have changed."""
    if not console.is_terminal:
        yield _LinePrinter(console, runs).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(live_table(runs), refresh=True)


class _LinePrinter:
    def __init__(self, console: Console, runs: Sequence[RunProcess]) -> None:
        self._console, self._runs = console, runs
        self._told: dict[str, str] = {}
        self._latest = time.monotonic()

    def show(self) -> None:
        for run in self._runs:
            said = describe_run(run)
            if run.state != "waiting" and self._told.get(run.cell.run) != said:
                self._told[run.cell.run] = said
                self._print(said)
        if time.monotonic() - self._latest > LOG_INTERVAL_S:
            for run in self._runs:
                if run.doing:
                    self._print(f"{describe_run(run)}; {run.doing}")

    def _print(self, said: str) -> None:
        self._latest = time.monotonic()
        self._console.print(said, highlight=False, markup=False, soft_wrap=True)


def describe_run(run: RunProcess) -> str:
    """Where a run is."""
    return f"{run.cell.recipe} seed {run.cell.seed}: {run.state}, {', '.join(_figures(run))}"


def live_table(runs: Sequence[RunProcess]) -> Group:
    """The live display."""
    counts = Counter(run.state for run in runs)
    head = ", ".join(f"{counts[state]} {state}" for state in STATE_ORDER if counts[state])
    table = Table("recipe", "seed", "state", "played", "made", "doing", box=None, pad_edge=False, header_style="bold")
    for run in sorted(runs, key=lambda run: STATE_ORDER.index(run.state)):
        table.add_row(
            run.cell.recipe, str(run.cell.seed), run.state, *_figures(run), Text(run.doing, no_wrap=True, overflow="ellipsis")
        )
    return Group(Text(f"{len(runs)} runs: {head}", style="bold"), table)


def _figures(run: RunProcess) -> tuple[str, str]:
    play, made = run.config.play, run.samples.after[run.iteration]
    of = f" of {play.samples:,}" if play.samples else ""
    most = f"{'at most ' if play.samples else ''}{play.iterations}"
    return f"iteration {run.iteration} of {most}", f"{made:,}{of} samples of the student"
