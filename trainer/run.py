"""Command line of the trainer: `python -m trainer.run RUN` learns what a run has played and not yet learned.

Law: RUN holds all it needs and gets all it makes: the log or its URL, `weights/<digest>`, `trainer.lock`, `trainer.log`, and
`trainer.out` with what libraries print. It plays nothing and talks to no other process; it meets play in the log. With
`--offline` RUN is a new folder, and what was played is read from the logs of other runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from events.cli import run_app
from events.errors import BadInput
from trainer.distributed import ALONE, World

if TYPE_CHECKING:
    from events.log import Event, Log
    from trainer.loop import Trainer
    from trainer.order import Order

POLL_S: Final = 0.03
"""Seconds between looks at the log."""
PATIENCE_S: Final = 60.0
"""How long a trainer with a parent waits for the trainer of a parent that died, which may still finish an update."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    run: Annotated[Path | None, typer.Argument(help="Directory of a run, with weights/ in it; new with --offline.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more iterations until the run is finished.")] = False,
    offline: Annotated[
        list[Path] | None,
        typer.Option(metavar="OLD", help="Train a fresh policy on what this run has played; may be repeated."),
    ] = None,
    recredit: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="With --offline: rewards and credit as this recipe gives them.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --offline: learn each iteration so many times.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="With --offline: change a setting; may be repeated.")
    ] = None,
    until: Annotated[int | None, typer.Option(min=1, help="Learn only what was finished up to this position.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained and stop; needs no torch.")] = False,
    verify: Annotated[
        bool | None,
        typer.Option(help="With --offline: samples and weights have to be the recorded ones. By default: where they can be."),
    ] = None,
    parent: Annotated[
        int | None, typer.Option(min=1, help="With --follow: also end when the parent process is no longer this one.")
    ] = None,
) -> None:
    """Learn every finished iteration of a run that is not learned yet, in order.

    Each update writes weights/<digest> and then appends PolicyUpdated
    to the log. Stop it whenever you like, with Ctrl-C or kill -9: an
    update counts once it is in the log, and an unfinished one is done
    again, with the same result. RUN/trainer.log tells what it does.

    With --offline OLD it makes a new run (OLD-offline, unless RUN names
    it) and trains it on what OLD has played, as OLD's own trainer did,
    and so to the same weights; or otherwise, by --recredit and --set.
    """
    from trainer.order import ordered

    if offline and follow:
        raise BadInput("--offline learns from what was played already; leave out --follow")
    changes = [*(overrides or []), *([f"learn.epochs={epochs}"] if epochs else [])]
    world = ALONE if dry_run else _joined(parent)
    if not world.leads:
        world.told()
    with ordered(run, offline or [], changes, recredit=recredit, until=until, verify=verify, dry=dry_run) as order:
        if dry_run:
            _preview(order)
        elif world.leads:
            world.told("opened")
            _work(order, world, follow=follow, parent=parent)
            world.told()
        else:
            _assist(order, world, follow=follow)
    world.leave()


def _joined(parent: int | None) -> World:
    """The world; processes of a parent that died do not wait for each other for ever."""
    from trainer.process import mortal

    if parent is not None and "RANK" in os.environ:
        mortal(parent, PATIENCE_S)
    return World.join()


def _preview(order: Order) -> None:
    from trainer import replay
    from trainer.preview import preview

    start = replay.started(order.log)
    for line in preview(order.syllabus(start)) if start else ("the run has not started; nothing would be trained",):
        typer.echo(line)


def _assist(order: Order, world: World, *, follow: bool) -> None:
    from trainer.process import quiet

    with quiet(order.folder / "trainer.out"):
        trainer = _trainer(order, world, follow=follow, parent=None)
        assert trainer is not None
        trainer.assist()


def _work(order: Order, world: World, *, follow: bool, parent: int | None) -> None:
    from events import logging
    from trainer.process import alone, quiet, stop_on_sigterm
    from trainer.report import Reporter

    stop_on_sigterm()
    log, folder = order.log, order.folder
    with alone(folder, patience_s=0 if parent is None else PATIENCE_S), quiet(folder / "trainer.out") as screen:
        logging.configure(file=folder / "trainer.log", run=folder.absolute().name)
        with logging.lifetime("trainer", position=log.head().position, processes=world.size, stage=world.stage):
            trainer = _trainer(order, world, follow=follow, parent=parent)
            if trainer is not None:
                _train(trainer, log, parent, Reporter(log, screen), follow=follow)


def _trainer(order: Order, world: World, *, follow: bool, parent: int | None) -> Trainer | None:
    """The trainer, once the run has started; None if its parent is gone before."""
    from trainer import replay
    from trainer.process import orphaned
    from trainer.trl import offline

    start = replay.started(order.log)
    while start is None:
        if not follow:
            raise BadInput(
                f"The run in {order.folder} has not started yet; start it with python -m graph.run, or wait with --follow"
            )
        if orphaned(parent):
            return None
        time.sleep(POLL_S)
        start = replay.started(order.log)
    offline()
    import torch

    from graph.threads import threads_of
    from trainer.loop import Trainer

    syllabus = order.syllabus(start)
    base = order.folder / "weights" / start.policies["student"]
    torch.set_num_threads(threads_of(syllabus.config, base, processes=world.size))
    return Trainer(order.log, order.folder, syllabus, world)


def _train(trainer: Trainer, log: Log, parent: int | None, say: Callable[[Event], None], *, follow: bool) -> None:
    if follow or trainer.behind():
        trainer.prepare()
    if follow:
        _follow(trainer, log, parent, say)
    else:
        for event in trainer.catch_up():
            say(event)
        trainer.finish()


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


if __name__ == "__main__":
    run_app(app)
