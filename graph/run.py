"""The main command: `python -m graph.run` plays a run, shows it live and ends with a table of results.

Heavy packages are imported only when a run really starts.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from events.cli.app import locate_log, run_app, typed_command
from events.facts.errors import BadInput
from events.facts.log import Log, first_event
from events.facts.streams import RUN
from events.facts.types import RunResumed
from events.process import shutdown
from events.process.console import RaisingConsole, detachable_console
from events.process.startup import die_with_parent
from events.stores import recordable_url
from graph.estimate.memory import GPU_HELP
from graph.estimate.plan import intended_gpu, plan
from graph.settings.config import Config
from graph.settings.configure import configure, to_toml
from graph.settings.listing import listing

if TYPE_CHECKING:
    from events.process.activity import Activity
    from graph.setup.player_supervisor import PlayerLauncher
    from graph.setup.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

HELP = """Play guided asymmetric self-play (GASP) and learn from it.

Without arguments: the pocket world, GASP + real-data RL, about ten minutes on two cores, no GPU and nothing to download.
Progress is shown live; everything that happens is in `runs/NAME/log.sqlite`, or in PostgreSQL with `--log`. Stop with Ctrl-C
at any moment, go on with `--resume`. It goes on when its terminal goes away.

- `gasp run` plays the default run
- `gasp run --set seed=1 --set play.iterations=10` changes settings (`--settings` lists the first, `--all` every one)
- `gasp run --dry-run my.toml` shows what would run, on which GPUs, for how long and for how much
- `gasp run --resume run-001` goes on after a stop or a crash
- `gasp run --set play.shares=8 --players 3` plays with three further processes of this machine
- `gasp run --join run-001` plays shares of a run that another process plays (`--set play.shares=4`)
- `gasp run --set goalposts=questions.jsonl` plays towards your own questions
"""

JOIN: Any = typer.Option(
    metavar="RUN", help="Play shares of this run, by name, folder or the URL of its log, until it is over."
)
WEIGHTS: Any = typer.Option(
    metavar="FOLDER|URL", help="With --join URL: the folder of the run, or the address of its coordinator's --serve-weights."
)
PLAYERS: Any = typer.Option(
    metavar="N|ray://HOST:PORT[/N]",
    help="Start so many players besides this one, here or on a Ray cluster (as many as shares), and replace those that die.",
)
SERVE_WEIGHTS: Any = typer.Option(
    metavar="HOST:PORT", help="Give weights to players without the run's folder, who need the token in GASP_WEIGHTS_TOKEN."
)


@app.command(help=HELP)
def main(
    config_file: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings to start from.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new run; the next free run-NNN by default.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep the log in PostgreSQL, e.g. postgresql://user@host/database; its password comes from PGPASSWORD.",
        ),
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run, by name or folder.")] = None,
    join: Annotated[str | None, JOIN] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    serve_weights: Annotated[str | None, SERVE_WEIGHTS] = None,
    players: Annotated[str | None, PLAYERS] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would run, on what and at what cost, and the resolved settings as TOML."),
    ] = False,
    gpu: Annotated[str | None, typer.Option(help=f"With --dry-run: {GPU_HELP}")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="With --dry-run: US dollars an hour and GPU.")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="List the settings that people change first, and stop.")] = False,
    all_settings: Annotated[bool, typer.Option("--all", help="With --settings: list every setting.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line an iteration instead of a live display.")] = False,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process, which started us, ends.")] = None,
    processes: Annotated[int, typer.Option(min=1, hidden=True, help="Processes that play beside us, and share the cores.")] = 1,
) -> None:
    """Parse, then play."""
    if parent is not None and not die_with_parent(parent):
        return
    if settings or all_settings:
        RaisingConsole().print(*listing(everything=all_settings), sep="\n")
        return
    console = detachable_console()
    plain = plain or not console.is_terminal or console.is_dumb_terminal
    if join is not None or weights is not None:
        _refuse_with_join(join, config_file, overrides, name, log, resume, dry_run, serve_weights, players)
        join_and_play(join or "", runs, weights, console, plain=plain, processes=processes)
        return
    _refuse_with_resume(resume, config_file, overrides, name, log)
    config = None if resume is not None else configure(config_file, overrides or [])
    if dry_run:
        if config is None:
            raise BadInput("--dry-run shows what a new run would use; leave out --resume.")
        kind = gpu or (intended_gpu(config_file.read_text()) if config_file else None)
        lines = [f"# {line}\n" for line in plan(config, kind, price)]
        print("".join(lines), to_toml(config), sep="\n", end="")  # noqa: T201 (the resolved settings are the output)
        return
    if gpu or price is not None:
        raise BadInput("--gpu and --price are for estimates; add --dry-run.")
    folder = _folder(runs, name, resume)
    url = None if log is None else recordable_url(log, folder.name)
    with _serving(folder, serve_weights) as address:
        play(folder, config, url, console, plain=plain, players=players, weights=address)


def _serving(folder: Path, address: str | None) -> AbstractContextManager[str | None]:
    """Serves the weights of a run while it is played, if there is an address."""
    if address is None:
        return nullcontext()
    from graph.setup.weights_transfer import serve_weights

    return serve_weights(folder / "weights", address)


def _refuse_with_resume(resume: str | None, *others: object) -> None:
    if resume is not None and any(others):
        raise BadInput(
            "--resume goes on with the settings and the log that the run was started with; "
            "leave out CONFIG, --set, --name and --log."
        )


def _refuse_with_join(join: str | None, *others: object) -> None:
    if join is None:
        raise BadInput("--weights says where a run's weights are to a player that joins it; add --join.")
    if any(others):
        raise BadInput("--join plays with the settings and the log that the run was started with; leave out the rest.")


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or folder of the run.")],
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    plain: Annotated[bool, typer.Option("--plain", help="One line an iteration instead of a live display.")] = False,
) -> None:
    """Go on with a run that was stopped; its samples and weights are those of a run that was never stopped."""
    main(resume=run, runs=runs, plain=plain)


def _folder(runs: Path, name: str | None, resume: str | None) -> Path:
    if resume is not None:
        return Path(resume) if Path(resume).is_dir() else runs / resume
    if name is None:
        taken = {path.name for path in runs.glob("run-*")}
        name = next(f"run-{number:03}" for number in range(1, 10**6) if f"run-{number:03}" not in taken)
    _check_name(name)
    return runs / name


def _check_name(name: str) -> None:
    if Path(name).name != name or not name.strip(". ") or not name.isprintable() or name[0] in "- " or name[-1] == " ":
        raise BadInput(
            f"--name {name!r} is not a folder name; use letters, digits, '-' and '_', but no '-' first and no blanks around."
        )


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
    from events.cli.output import show_activity
    from events.text import logging
    from graph.display import final_report
    from graph.setup.folder import create_run, reopen_run, run_lock
    from graph.setup.model_source import PolicyWeights, check_servers
    from graph.setup.player_launchers import make_launcher, parse_players
    from graph.setup.run_inputs import read_inputs
    from graph.setup.session import open_session

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
    from events.cli.output import show_activity
    from events.text import logging
    from graph.setup.join import join_run
    from graph.setup.session import open_session

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
    from events.cli.output import show_activity
    from events.process.activity import Activity
    from graph.display import REFRESH_S, log_progress
    from graph.play.player import Player
    from graph.play.scheduler import make_scheduler
    from graph.play.trainer_process import TrainerProcess
    from graph.setup.assemble import assemble_play, make_runner, prepare_sandbox, record_goalposts
    from graph.setup.model_source import open_models
    from graph.setup.player_supervisor import PlayerSupervisor

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
    from events.cli.output import print_note
    from events.text.logging import logger
    from graph.display import show

    try:
        await show(log, console, config, activity, plain=plain)
    except Exception as error:
        logger().exception("display_failed")
        with suppress(OSError):
            print_note(
                f"warning: the display failed ({type(error).__name__}) and shows nothing more; the run goes on, see run.log"
            )


if __name__ == "__main__":
    run_app(app)
