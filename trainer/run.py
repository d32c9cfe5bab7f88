"""Command line of the trainer: `python -m trainer.run RUN` learns what a run has played and not yet learned.

RUN is a folder with the log or its URL, `weights/<digest>`, `trainer.lock`, `trainer.log` and `trainer.out` (what libraries
print). The trainer talks to no other process: it reads what was played in the log. With `--offline` RUN is a new folder, and
the rollouts are read from the logs of other runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from events.cli.app import run_app
from events.facts.errors import BadInput
from events.facts.log import Event, Log, find_run_started
from events.process.activity import Activity
from events.process.startup import die_with_parent
from trainer.parallel.distributed import SINGLE_PROCESS, World

if TYPE_CHECKING:
    from trainer.job.job import TrainingJob
    from trainer.learn.loop import Trainer

POLL_S: Final = 0.03
"""Seconds between looks at whether the run has started."""
FOLLOW_WAIT_S: Final = 60.0
"""Seconds without an append after which the log is looked at all the same."""
LOCK_TIMEOUT_S: Final = 60.0
"""Seconds that a trainer with a parent waits for the trainer of an earlier parent, which ends a moment after it."""

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
        str | None, typer.Option(metavar="RECIPE", help="With --offline: rewards and advantages as this recipe gives them.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --offline: learn each iteration so many times.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="With --offline: change a setting; may be repeated.")
    ] = None,
    until: Annotated[int | None, typer.Option(min=1, help="Learn only what was finished up to this position.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained; needs no torch.")] = False,
    verify: Annotated[
        bool | None,
        typer.Option(
            help="With --offline: samples and weights have to be the recorded ones. By default with the same settings."
        ),
    ] = None,
    parent: Annotated[int | None, typer.Option(min=1, help="End at once when this process, which started us, ends.")] = None,
) -> None:
    """Learn every finished iteration of a run that is not learned yet, in order.

    Each update writes weights/<digest> and then appends PolicyUpdated
    to the log. Stop it whenever you like, with Ctrl-C or kill -9: an
    update counts once it is in the log, and an unfinished one is done
    again, with the same result. RUN/trainer.log records what it does.

    With --offline OLD it makes a new run (OLD-offline, unless RUN names
    it) and trains it on what OLD has played, as OLD's own trainer did,
    and so to the same weights; or otherwise, by --recredit and --set.
    """
    from trainer.job.job import open_job

    if offline and follow:
        raise BadInput("--offline learns from what was played already; leave out --follow.")
    if parent is not None and not die_with_parent(parent):
        return
    changes = [*(overrides or []), *([f"learn.epochs={epochs}"] if epochs else [])]
    world = SINGLE_PROCESS if dry_run else World.join()
    if not world.is_leader:
        world.broadcast()
    with open_job(run, offline or [], changes, recredit=recredit, until=until, verify=verify, dry=dry_run) as job:
        if dry_run:
            _describe(job)
        elif world.is_leader:
            world.broadcast("opened")
            _lead(job, world, follow=follow, parented=parent is not None)
            world.broadcast()
        else:
            _assist(job, world, follow=follow)
    world.leave()


def _describe(job: TrainingJob) -> None:
    from trainer.job.dry_run import describe_updates

    start = find_run_started(job.log)
    for line in describe_updates(job.schedule(start)) if start else ("the run has not started; nothing would be trained",):
        typer.echo(line)


def _assist(job: TrainingJob, world: World, *, follow: bool) -> None:
    from trainer.parallel.trainer_lock import redirect_output

    with redirect_output(job.folder / "trainer.out"):
        _trainer(job, world, Activity(), follow=follow).assist()


def _lead(job: TrainingJob, world: World, *, follow: bool, parented: bool) -> None:
    from rich.file_proxy import FileProxy

    from events.process.console import RaisingConsole
    from events.text import logging
    from trainer.learn.update_report import UpdateReporter, report_training
    from trainer.parallel.trainer_lock import exclusive_trainer, redirect_output

    log, folder = job.log, job.folder
    with (
        exclusive_trainer(folder, timeout_s=LOCK_TIMEOUT_S if parented else 0),
        redirect_output(folder / "trainer.out") as screen,
    ):
        logging.configure(file=folder / "trainer.log", run=folder.absolute().name)
        console = RaisingConsole(file=screen)
        # The parent process has a display of its own.
        reporting = report_training(folder, None if parented else console)
        lines = FileProxy(console, screen) if console.is_terminal else screen
        lifetime = logging.log_lifetime("trainer", position=log.head().position, processes=world.size, stage=world.stage)
        with lifetime, reporting as activity:
            _train(_trainer(job, world, activity, follow=follow), log, UpdateReporter(log, lines), follow=follow)


def _trainer(job: TrainingJob, world: World, activity: Activity, *, follow: bool) -> Trainer:
    """The trainer, after waiting for the run to start."""
    from trainer.learn.loss import keep_libraries_offline

    start = find_run_started(job.log)
    while start is None:
        if not follow:
            raise BadInput(f"The run in {job.folder} has not started yet; start it with `gasp run`, or wait with --follow.")
        time.sleep(POLL_S)
        start = find_run_started(job.log)
    with activity.task("importing torch"):
        keep_libraries_offline()
        import torch

    from events.process.process_memory import tune_process
    from graph.settings.threads import threads_of
    from trainer.learn.loop import Trainer

    schedule = job.schedule(start)
    base = job.folder / "weights" / start.policies["student"]
    torch.set_num_threads(threads_of(schedule.config, base, processes=world.size))
    tune_process()
    return Trainer(job.log, job.folder, schedule, world, activity=activity)


def _train(trainer: Trainer, log: Log, on_update: Callable[[Event], None], *, follow: bool) -> None:
    if follow or trainer.has_work():
        trainer.prepare()
    if follow:
        _follow(trainer, log, on_update)
    else:
        for event in trainer.catch_up():
            on_update(event)
        trainer.finish()


def _follow(trainer: Trainer, log: Log, on_update: Callable[[Event], None]) -> None:
    with closing(log.subscribe()) as subscription:
        while True:
            # Read before catching up, so that the last iterations of a run that ends meanwhile are still learned.
            over = trainer.is_over()
            for event in trainer.catch_up():
                on_update(event)
            if over:
                return
            subscription.wait(FOLLOW_WAIT_S)


if __name__ == "__main__":
    run_app(app)
