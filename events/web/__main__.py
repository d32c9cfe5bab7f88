"""`python -m events.web RUN...`: serves the viewer, on loopback by default, and on other addresses only with a token."""

from __future__ import annotations

import errno
import gc
import secrets
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated
from urllib.parse import urlencode

import typer

from events.cli.app import run_app
from events.facts.errors import BadInput

PORT = 8321
PORTS_TRIED = 20
"""Ports that are tried, from `PORT` on, where none is given."""

app = typer.Typer(name="python -m events.web", add_completion=False)


@app.command()
def web(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, log.sqlite files, postgresql:// URLs, or folders of runs."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at. Any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, show_default=str(PORT), help="By default the next free one if taken.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Secret that a browser must send. Made where one is needed and none is given.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Look at runs in a browser: curves, goalposts, every question and attempt, live while they are played.

    New runs in a folder appear by themselves. Nothing is changed: logs are opened for reading only, and what is kept beside
    them (index.sqlite and index.summary.json) is a cache that may be deleted. Ctrl-C ends it.
    """
    # Events are many small objects without cycles: by default a tenth of reading them goes into the search for cycles.
    gc.set_threshold(10_000)
    with _web_extra():
        from events.web.app import make_app
        from events.web.security import is_loopback
        from events.web.server import ViewerServer
        from events.web.view.viewer import Viewer
    local = is_loopback(host)
    token = token or (None if local else secrets.token_urlsafe(24))
    with closing(_listen(host, port)) as listening, closing(Viewer(runs)) as viewer:
        bound = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        query = f"?{urlencode({'token': token})}" if token else ""
        address = f"http://{name}:{bound}/{query}"
        names = {"localhost", "127.0.0.1", "[::1]", name} if local else None
        server = ViewerServer(make_app(viewer, hosts=names, token=token, cookie=f"gasp-{bound}"), viewer)
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        if open_it:
            webbrowser.open(address)
        server.run([listening])


@contextmanager
def _web_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise BadInput(f"The viewer needs {error.name}, which is not installed; run `pip install 'gasp[web]'`.") from error


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket; BadInput if the port is taken, or the host is not an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port is not None else range(PORT, PORT + PORTS_TRIED):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                failure = f"The viewer cannot listen at {host} ({error.strerror})"
                raise BadInput(f"{failure}; give --host an address of this machine.") from error
    which = f"Port {port} is" if port is not None else f"Ports {PORT} to {PORT + PORTS_TRIED - 1} are"
    raise BadInput(f"{which} taken at {host}; give another --port, or 0 for any that is free.")


if __name__ == "__main__":
    run_app(app)
