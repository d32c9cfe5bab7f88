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

from events.process.activity import LOGGED_S
from trainer.experiments.runs import Run, State

ORDER: Final[tuple[State, ...]] = get_args(State)
"""What a small window still shows comes first."""


@contextmanager
def progress(console: Console, runs: Sequence[Run]) -> Iterator[Callable[[], None]]:
    """Show runs; gives what to call when they may have changed."""
    if not console.is_terminal:
        yield _Lines(console, runs).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(screen(runs), refresh=True)


class _Lines:
    def __init__(self, console: Console, runs: Sequence[Run]) -> None:
        self._console, self._runs = console, runs
        self._told: dict[str, str] = {}
        self._latest = time.monotonic()

    def show(self) -> None:
        for run in self._runs:
            said = line(run)
            if run.state != "waiting" and self._told.get(run.cell.run) != said:
                self._told[run.cell.run] = said
                self._print(said)
        if time.monotonic() - self._latest > LOGGED_S:
            for run in self._runs:
                if run.doing:
                    self._print(f"{line(run)}; {run.doing}")

    def _print(self, said: str) -> None:
        self._latest = time.monotonic()
        self._console.print(said, highlight=False, markup=False, soft_wrap=True)


def line(run: Run) -> str:
    """Where a run is."""
    return f"{run.cell.recipe} seed {run.cell.seed}: {run.state}, {', '.join(_figures(run))}"


def screen(runs: Sequence[Run]) -> Group:
    """The live display."""
    counts = Counter(run.state for run in runs)
    head = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    table = Table("recipe", "seed", "state", "played", "made", "doing", box=None, pad_edge=False, header_style="bold")
    for run in sorted(runs, key=lambda run: ORDER.index(run.state)):
        table.add_row(
            run.cell.recipe, str(run.cell.seed), run.state, *_figures(run), Text(run.doing, no_wrap=True, overflow="ellipsis")
        )
    return Group(Text(f"{len(runs)} runs: {head}", style="bold"), table)


def _figures(run: Run) -> tuple[str, str]:
    play, made = run.config.play, run.samples.after[run.iteration]
    of = f" of {play.samples:,}" if play.samples else ""
    most = f"{'at most ' if play.samples else ''}{play.iterations}"
    return f"iteration {run.iteration} of {most}", f"{made:,}{of} samples of the student"
