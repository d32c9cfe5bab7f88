"""The main command: `python -m graph.run` plays a run, shows it live and ends with a table of results (`graph.play_run`).

Heavy packages are imported only when a run really starts.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from events.cli.app import run_app
from events.facts.errors import BadInput
from events.process.console import RaisingConsole, detachable_console
from events.process.startup import die_with_parent
from events.stores import recordable_url
from graph.estimate.memory import GPU_HELP
from graph.estimate.plan import intended_gpu, plan
from graph.settings.config import Config
from graph.settings.configure import configure, to_toml
from graph.settings.listing import listing

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
        from graph.play_run import join_and_play

        join_and_play(join or "", runs, weights, console, plain=plain, processes=processes)
        return
    _refuse_with_resume(resume, config_file, overrides, name, log)
    config = None if resume is not None else configure(config_file, overrides or [])
    if dry_run:
        _print_plan(config, config_file, gpu, price)
        return
    if gpu or price is not None:
        raise BadInput("--gpu and --price are for estimates; add --dry-run.")
    from graph.play_run import play

    folder = _folder(runs, name, resume)
    url = None if log is None else recordable_url(log, folder.name)
    with _weights_server(folder, serve_weights) as address:
        play(folder, config, url, console, plain=plain, players=players, weights=address)


def _print_plan(config: Config | None, config_file: Path | None, gpu: str | None, price: float | None) -> None:
    if config is None:
        raise BadInput("--dry-run shows what a new run would use; leave out --resume.")
    kind = gpu or (intended_gpu(config_file.read_text()) if config_file else None)
    lines = [f"# {line}\n" for line in plan(config, kind, price)]
    print("".join(lines), to_toml(config), sep="\n", end="")  # noqa: T201 (the resolved settings are the output)


def _weights_server(folder: Path, address: str | None) -> AbstractContextManager[str | None]:
    """A server of a run's weights while it is played; none, if there is no address."""
    if address is None:
        return nullcontext()
    from graph.setup.weights_transfer import weights_server

    return weights_server(folder / "weights", address)


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


if __name__ == "__main__":
    run_app(app)
