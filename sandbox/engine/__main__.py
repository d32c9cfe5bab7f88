"""`python -m sandbox.engine`: start, stop and inspect the Docker engine that sandboxes run in."""

from __future__ import annotations

from typing import Annotated

import typer

from events.cli.app import run_app
from sandbox.engine import engine, image_build, owner

engine_app = typer.Typer(
    name="engine",
    help="The Docker engine that sandboxes run in: DOCKER_HOST, else the default socket, else a private one of our own "
    "(root on Debian or Ubuntu; own data folder, socket and network namespace, the host's networking is untouched).",
    no_args_is_help=True,
    add_completion=False,
)


@engine_app.command()
def up() -> None:
    """Make sure that an engine answers and has the sandbox image; fast if so already."""
    client = engine.connect(engine.print_message)
    image = image_build.ensure_image(client, engine.print_message)
    engine.print_message(f"Docker {client.version()['Version']} is up, sandbox image {image_build.image_tag()} ({image[:19]}).")


@engine_app.command()
def down(
    idle: Annotated[
        bool, typer.Option("--idle", help="Leave it up while any container with a living owner runs in it.")
    ] = False,
) -> None:
    """Stop the private engine, with everything that runs in it. Images stay; other engines are left alone."""
    private = engine.PrivateEngine.default()
    connection = engine.find_engine() if idle else None
    if connection is not None and connection.url == private.url and owner.in_use(connection.client):
        engine.print_message("The private Docker engine is in use and stays up.")
        return
    private.down(engine.print_message)


@engine_app.command()
def status() -> None:
    """Show which engine answers, its version and the sandbox image. Starts nothing; exit code 1 when none answers."""
    connection = engine.find_engine()
    if connection is None:
        engine.print_message("No Docker engine answers; start one with `gasp engine up`.")
        raise typer.Exit(1)
    private = engine.PrivateEngine.default()
    where = f"private, process {private.pid()}" if connection.url == private.url else "not ours"
    images = ", ".join(image_build.installed_tags(connection.client)) or "none yet"
    version = connection.client.version()["Version"]
    engine.print_message(f"Docker {version} at {connection.url} ({where}); sandbox images: {images}.")


@engine_app.command()
def purge() -> None:
    """Remove the sandbox image and orphaned containers, and the private engine with all of its data."""
    connection = engine.find_engine()
    if connection is not None:
        owner.remove_orphans(connection.client)
        image_build.remove_images(connection.client)
    engine.PrivateEngine.default().purge(engine.print_message)


if __name__ == "__main__":
    run_app(engine_app)
