"""The command lines of the sandbox: `python -m sandbox.engine` and `python -m sandbox`.

Law: every failure is one sentence and an exit code, never a traceback. What the commands do lies in the modules.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from events.screen import Screen
from sandbox import engine, image_build, owner

engine_app = typer.Typer(
    name="engine",
    help="The Docker engine that sandboxes run in: DOCKER_HOST, else the default socket, else a private one of our own "
    "(root on Debian or Ubuntu; own data folder, socket and network namespace, the host's networking is untouched).",
    no_args_is_help=True,
    add_completion=False,
)
sandbox_app = typer.Typer(
    name="sandbox",
    help="Containers that run model-written programs. See also: python -m sandbox.engine --help",
    no_args_is_help=True,
    add_completion=False,
)


@engine_app.command()
def up() -> None:
    """Make sure that an engine answers and has the sandbox image. Fast when that is so already."""
    client = engine.connect(engine.tell)
    image = image_build.ensure(client, engine.tell)
    engine.tell(f"Docker {client.version()['Version']} is up, sandbox image {image_build.tag()} ({image[:19]}).")


@engine_app.command()
def down(
    idle: Annotated[
        bool, typer.Option("--idle", help="Leave it up while any container with a living owner runs in it.")
    ] = False,
) -> None:
    """Stop the private engine, with everything that runs in it. Images stay; other engines are left alone."""
    private = engine.Engine.default()
    found = engine.find() if idle else None
    if found is not None and found.url == private.url and any(not item.orphan for item in owner.containers(found.client)):
        engine.tell("The private Docker engine is in use and stays up.")
        return
    private.down(engine.tell)


@engine_app.command()
def status() -> None:
    """Show which engine answers, its version and the sandbox image. Starts nothing; exit code 1 when none answers."""
    found = engine.find()
    if found is None:
        engine.tell("No Docker engine answers; start one with `python -m sandbox.engine up`.")
        raise typer.Exit(1)
    private = engine.Engine.default()
    where = f"private, process {private.pid()}" if found.url == private.url else "not ours"
    images = ", ".join(image_build.installed(found.client)) or "none yet"
    engine.tell(f"Docker {found.client.version()['Version']} at {found.url} ({where}); sandbox images: {images}.")


@engine_app.command()
def purge() -> None:
    """Remove the sandbox image and orphaned containers, and the private engine with all of its data."""
    found = engine.find()
    if found is not None:
        owner.remove_orphans(found.client)
        image_build.remove(found.client)
    engine.Engine.default().purge(engine.tell)


@sandbox_app.command("status")
def containers() -> None:
    """List the sandbox containers with their run and owner."""
    found = engine.find()
    table = Table("container", "run", "owner", "state", box=None)
    for item in owner.containers(found.client) if found else ():
        table.add_row(item.id[:12], escape(item.run), f"{item.owner}{' (gone)' if item.orphan else ''}", item.state)
    Screen().print(table if table.row_count else "No sandbox containers.")


@sandbox_app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Also containers whose owner is alive.")] = False,
) -> None:
    """Remove the containers whose owner is gone."""
    found = engine.find()
    chosen = [item for item in owner.containers(found.client) if everything or item.orphan] if found else []
    for item in chosen:
        assert found is not None
        owner.remove(found.client, item.id)
    engine.tell(f"Removed {len(chosen)} containers.")


@sandbox_app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}, add_help_option=False
)
def reverify(context: typer.Context) -> None:
    """Judge the recorded answers of a RUN again and report every verdict that comes out otherwise."""
    # By name and never by import: whoever judges answers knows the sandbox, and not the other way round.
    os.execv(sys.executable, [sys.executable, "-m", "roles.reverify", *context.args])  # noqa: S606
