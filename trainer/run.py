"""Command line of the trainer: `python -m trainer.run RUN` learns what a run has played and not yet learned.

Law: RUN holds all it needs and gets all it makes: the log or its URL, `weights/<digest>`, `trainer.lock`, `trainer.log`, and
`trainer.out` with what libraries print. It plays nothing and talks to no other process; it meets play in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer

from events.cli import open_any, run_app
from events.errors import BadInput

if TYPE_CHECKING:
    from events.log import Event, Log
    from trainer.loop import Trainer

POLL_S: Final = 0.03
"""Seconds between looks at the log."""
PATIENCE_S: Final = 60.0
"""How long a trainer with a parent waits for the trainer of a parent that died, which may still finish an update."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="Directory of a run, with weights/ in it.")],
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more iterations until the run is finished.")] = False,
    parent: Annotated[
        int | None, typer.Option(min=1, help="With --follow: also end when the parent process is no longer this one.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads. Other numbers change the last bits of the weights.")] = 1,
) -> None:
    """Learn every finished iteration of a run that is not learned yet, in order.

    Each update writes weights/<digest> and then appends PolicyUpdated
    to the log. Stop it whenever you like, with Ctrl-C or kill -9: an
    update counts once it is in the log, and an unfinished one is done
    again, with the same result. RUN/trainer.log tells what it does.
    """
    from events import logging
    from trainer.process import alone, quiet, stop_on_sigterm

    stop_on_sigterm()
    with closing(open_any(str(run))) as log:
        folder = run if run.is_dir() else run.parent
        with alone(folder, patience_s=0 if parent is None else PATIENCE_S), quiet(folder / "trainer.out") as screen:
            logging.configure(file=folder / "trainer.log", run=folder.absolute().name)
            with logging.lifetime("trainer", position=log.head().position):
                trainer = _trainer(folder, log, threads, follow=follow, parent=parent)
                if trainer is not None:
                    _train(trainer, log, parent, reporter(screen), follow=follow)


def _trainer(run: Path, log: Log, threads: int, *, follow: bool, parent: int | None) -> Trainer | None:
    """The trainer, once the run has started; None if its parent is gone before."""
    from trainer import replay
    from trainer.process import orphaned
    from trainer.trl import offline

    start = replay.started(log)
    while start is None:
        if not follow:
            raise BadInput(f"The run in {run} has not started yet; start it with python -m graph.run, or wait with --follow")
        if orphaned(parent):
            return None
        time.sleep(POLL_S)
        start = replay.started(log)
    offline()
    import torch

    from trainer.loop import Trainer

    torch.set_num_threads(threads)
    return Trainer(log, run, start)


def _train(trainer: Trainer, log: Log, parent: int | None, say: Callable[[Event], None], *, follow: bool) -> None:
    if follow or trainer.behind():
        trainer.prepare()
    if follow:
        _follow(trainer, log, parent, say)
    else:
        for event in trainer.catch_up():
            say(event)


def _follow(trainer: Trainer, log: Log, parent: int | None, say: Callable[[Event], None]) -> None:
    from trainer.process import orphaned

    while not orphaned(parent):
        # Asked first: what was finished before the end of the run is then certainly seen below.
        done = trainer.done()
        for event in trainer.catch_up():
            say(event)
        if done:
            return
        while not log.changed() and not orphaned(parent):
            time.sleep(POLL_S)


def reporter(screen: TextIO) -> Callable[[Event], None]:
    """Tells of updates: a line for people on the screen, all figures in the operational log."""
    from events.logging import logger
    from trainer.report import line, pairs

    def say(event: Event) -> None:
        print(line(event), file=screen)
        logger().info("policy_updated", **pairs(event))

    return say


if __name__ == "__main__":
    run_app(app)
