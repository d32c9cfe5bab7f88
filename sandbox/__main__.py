"""`python -m sandbox`: list sandbox containers, and remove those whose owner is gone."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from events.cli.app import run_app
from events.process.console import RaisingConsole
from sandbox.engine import engine, owner

sandbox_app = typer.Typer(
    name="sandbox",
    help="Containers that run model-written programs. See also: gasp engine --help",
    no_args_is_help=True,
    add_completion=False,
)


@sandbox_app.command("status")
def containers() -> None:
    """List the sandbox containers with their run and owner."""
    connection = engine.find_engine()
    table = Table("container", "run", "owner", "state", box=None)
    for container in owner.owned_containers(connection.client) if connection else ():
        ended = " (gone)" if container.orphan else ""
        table.add_row(container.id[:12], escape(container.run), f"{container.owner}{ended}", container.state)
    RaisingConsole().print(table if table.row_count else "No sandbox containers.")


@sandbox_app.command()
def clean(everything: Annotated[bool, typer.Option("--all", help="Also containers whose owner is alive.")] = False) -> None:
    """Remove the containers whose owner is gone."""
    connection = engine.find_engine()
    containers = owner.owned_containers(connection.client) if connection else []
    removed = [container.id for container in containers if everything or container.orphan]
    for container in removed:
        assert connection is not None
        owner.remove_container(connection.client, container)
    engine.print_message(f"Removed {len(removed)} containers.")


if __name__ == "__main__":
    run_app(sandbox_app)
