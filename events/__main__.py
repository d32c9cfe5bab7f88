"""`python -m events`: commands on a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from events.cli import open_run, run_app
from events.safe_text import markup

app = typer.Typer(name="python -m events", help="Commands on a run's event log.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Commands on a run's event log."""


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="Directory of a run, or its log.sqlite.")],
    head: Annotated[str | None, typer.Option(help="Also compare with this head, e.g. one that was published.")] = None,
) -> None:
    """Recompute every hash and every blob; name the first position that is wrong. Exit code 1 if there is one."""
    log, console = open_run(run), Console(highlight=False, soft_wrap=True)
    broken, tip = log.verify(), log.head()
    if broken is not None:
        console.print(f"[red]broken[/] at position {broken.position}: {markup(broken.problem)}")
        raise typer.Exit(1)
    if head is not None and head != tip.digest:
        console.print(f"[red]another log[/]: it is sound, but its head is {tip.digest}")
        raise typer.Exit(1)
    console.print(f"[green]sound[/]: {tip.position} events, head {tip.digest}")


if __name__ == "__main__":
    run_app(app)
