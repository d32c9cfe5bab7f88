"""Plays a run as one process: opens log, sandbox, models and trainer, shows what happens, and closes them however it ends."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from rich.markup import escape

from events.cli.app import locate_log, typed_command
from events.cli.output import print_note, show_activity
from events.facts.log import Log, first_event
from events.facts.streams import RUN
from events.facts.types import RunResumed
from events.process import shutdown
from events.process.activity import Activity
from events.process.console import RaisingConsole
from events.text import logging
from events.text.logging import logger
from graph.display.final_report import final_report
from graph.display.live import REFRESH_S, log_progress, show
from graph.play.player import Player
from graph.play.scheduler import make_scheduler
from graph.play.trainer_process import TrainerProcess
from graph.settings.config import Config
from graph.setup.assemble import assemble_play, make_runner, prepare_sandbox, record_goalposts
from graph.setup.folder import create_run, reopen_run, run_lock
from graph.setup.join import join_run
from graph.setup.model_source import PolicyWeights, check_servers, open_models
from graph.setup.player_launchers import make_launcher, parse_players
from graph.setup.player_supervisor import PlayerLauncher, PlayerSupervisor
from graph.setup.run_inputs import read_inputs
from graph.setup.session import Session, open_session


def play(
    folder: Path,
    config: Config | None,
    url: str | None,
    console: RaisingConsole,
    *,
    plain: bool,
    players: str | None = None,
    weights: str | None = None,
) -> None:
    """Play a new run, or resume one when there is no config; a GaspError keeps what was played.

    `players` is as in the option; those on other machines fetch weights from the URL `weights`, unless there is none.
    """
    request = None if players is None else parse_players(players)
    _prepare_process()
    fresh = config is not None
    with show_activity(console=console) as activity, activity.task(f"preparing {folder}"):
        if config is None:
            reopened, config, inputs = reopen_run(folder)
        else:
            reopened, inputs = None, read_inputs(config)
            check_servers(config, PolicyWeights(inputs.model, inputs.digest))
        where = url or locate_log(str(folder), new=True)
        launcher = None if request is None else make_launcher(request, folder, config, where, weights)
        log = create_run(folder, config, inputs, url) if reopened is None else reopened
    with closing(log), run_lock(folder), open_session(folder, config, log, inputs) as session:
        finished = first_event(log, RUN, "run_finished") is not None
        if not fresh and not finished:
            if not config.repeatable and _stopped_within_iteration(log):
                note = "The servers make their own batches: what was lost is sampled again, and may come out differently."
                console.print(note, style="dim", soft_wrap=True)
            log.append(RUN, [RunResumed(position=log.head().position)])
        logging.configure(file=folder / "run.log", run=folder.name)
        try:
            if not finished:
                with logging.log_lifetime("run", position=log.head().position):
                    processes = 1 if launcher is None else 1 + launcher.sharing_cores
                    shutdown.run(_play_run(session, console, plain=plain, launcher=launcher, processes=processes))
        except BaseException:
            again = f"{typed_command('graph.run')} --resume {shlex.quote(str(folder))}"
            console.print(f"The run is kept; go on with: {escape(again)}", style="dim", soft_wrap=True, highlight=False)
            raise
        console.print(final_report(log, folder), crop=False)


def _prepare_process() -> None:
    # For torch in this process, the trainer and servers: waiting threads sleep, since the processes share the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _stopped_within_iteration(log: Log) -> bool:
    kinds = [event.fact.kind for event in log.read(RUN, kinds={"iteration_started", "iteration_finished"})]
    return kinds[-1:] == ["iteration_started"]


def join_and_play(
    where: str, runs: Path, weights: str | None, console: RaisingConsole, *, plain: bool, processes: int = 1
) -> None:
    """Play shares of a run that others play, until it is finished; `processes` of them share the cores of this machine."""
    _prepare_process()
    with show_activity(console=console) as activity, activity.task(f"joining {where}"):
        joined = join_run(where, runs, weights)
    run = joined.folder, joined.config, joined.log, joined.inputs
    with closing(joined.log), open_session(*run, joined=True, fetch=joined.fetch) as session:
        logs = joined.folder / "players"
        logs.mkdir(exist_ok=True)
        logging.configure(file=logs / f"{session.player}.log", run=joined.folder.name)
        with logging.log_lifetime("player", position=session.log.head().position):
            shutdown.run(_play_run(session, console, plain=plain, processes=processes))
    console.print(f"The run is finished; this was the player {session.player}.", style="dim", soft_wrap=True, highlight=False)


async def _play_run(
    session: Session, console: RaisingConsole, *, plain: bool, launcher: PlayerLauncher | None = None, processes: int = 1
) -> None:
    """Play, and close everything at the end, however it ends."""
    folder, config, log, inputs = session.folder, session.config, session.log, session.inputs
    activity = Activity()
    runner, trainer = make_runner(config, folder.name), TrainerProcess(folder, log, config.learn, activity)

    async def play() -> None:
        await prepare_sandbox(runner, activity)
        if not session.joined:
            record_goalposts(log, inputs.goalposts)
            # The trainer loads at the same time as the models, and so do players.
            trainer.start()
            if launcher is not None:
                tasks.append(asyncio.create_task(PlayerSupervisor(launcher, activity).run()))
        weights, servers = session.opening_weights, session.shared_servers
        async with open_models(config, weights, folder, activity, servers, processes) as models:
            play = assemble_play(
                folder,
                config,
                log,
                inputs,
                runner=runner,
                models=models,
                trainer=trainer,
                scheduler=make_scheduler(config.play.order, activity),
                claims=session.claims,
                fetch=session.fetch,
            )
            await (Player(play).run() if session.joined else play.run())

    playing = asyncio.create_task(play())
    tasks = [playing, asyncio.create_task(log_progress(activity))]
    tasks.append(asyncio.create_task(_display(log, console, config, activity, plain=plain)))
    try:
        await asyncio.wait({playing})
        await asyncio.sleep(2 * REFRESH_S if plain else 0)
    finally:
        await _cancel(tasks)
        with show_activity(console=console) as stopping, stopping.task("stopping the trainer and the sandbox"):
            await asyncio.to_thread(trainer.stop)
            if launcher is not None:
                await launcher.stop()
            await runner.close()
    if not playing.cancelled():
        playing.result()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _display(log: Log, console: RaisingConsole, config: Config, activity: Activity, *, plain: bool) -> None:
    """Show the run; if the display fails, the run goes on without it."""
    try:
        await show(log, console, config, activity, plain=plain)
    except Exception as error:
        logger().exception("display_failed")
        with suppress(OSError):
            print_note(
                f"warning: the display failed ({type(error).__name__}) and shows nothing more; the run goes on, see run.log"
            )
