"""Weights over HTTP: the coordinator of a run gives them, by digest, to players that do not share its folder.

Guarantees: nobody gets a file without the token; what was fetched has its digest, or is not kept.
Not responsible for: secrecy on the wire. It is plain HTTP: use it in a network of your own, or through a tunnel.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

from events.facts.digests import SHORT
from events.facts.errors import BadInput, ModelError
from events.facts.log import ReadableLog, read_facts
from events.facts.values import Digest
from events.facts.weight_facts import WeightsPruned
from events.facts.weights import OPTIMIZER_FILE, weights_digest

TOKEN_VARIABLE: Final = "GASP_WEIGHTS_TOKEN"  # noqa: S105  # the name of a variable
"""The environment variable with the token that coordinator and players share."""
_SILENCE_S: Final = 60.0
"""Seconds without a byte after which a fetch is given up."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def weights_token() -> str:
    """The token; BadInput if there is none, or if it can be guessed."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < 16:
        raise BadInput(
            f"Weights are given to who has a token; set {TOKEN_VARIABLE} to the same 16 characters or more everywhere."
        )
    return token


@contextmanager
def weights_server(store: Path, address: str) -> Iterator[str]:
    """A server of the folders of `store` at `HOST:PORT` (port 0: any that is free) for the length of a block; gives its URL.

    Raises:
        BadInput: there can be no server at the address, or there is no token.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"{address!r} is no address for weights; write HOST:PORT, such as 10.0.0.1:8300.")
    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), partial(_Handler, store, weights_token()))
    except (OSError, OverflowError) as error:
        raise BadInput(f"Weights cannot be served at {address} ({error}); choose another HOST:PORT.") from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="weights", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """`GET /DIGEST` lists the files of weights and their sizes, `GET /DIGEST/FILE` gives one."""

    def __init__(self, store: Path, token: str, *arguments: Any) -> None:
        self._store = store
        self._expected = f"Bearer {token}".encode()
        super().__init__(*arguments)

    def do_GET(self) -> None:  # http.server calls it so
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self._expected):
            self.send_error(HTTPStatus.UNAUTHORIZED)
            return
        digest, _, name = self.path.lstrip("/").partition("/")
        files = _files(self._store / digest) if _DIGEST.fullmatch(digest) else {}
        if not files or (name and name not in files):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if not name:
            self._send(json.dumps(files).encode())
            return
        with (self._store / digest / name).open("rb") as file:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(files[name]))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, 1 << 20)

    def _send(self, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing: standard error is the display's."""


def _files(folder: Path) -> dict[str, int]:
    """Sizes of the files that a player needs, by name."""
    if not folder.is_dir():
        return {}
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name != OPTIMIZER_FILE}


def fetch_weights(url: str, digest: Digest, store: Path) -> None:
    """Fetch weights into `store/<digest>`, unless they are there.

    Raises:
        BadInput: there is no token.
        ModelError: they cannot be fetched, or are others than asked for.
    """
    folder = store / digest
    if folder.is_dir():
        return
    unfinished = store / f".fetching-{os.getpid()}-{digest}"
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        for name in json.loads(_get(f"{url}/{digest}").read()):
            if Path(name).name != name:
                raise ModelError(f"The server of weights at {url} names a file {name!r}; it is none of this version.")
            with _get(f"{url}/{digest}/{name}") as content, (unfinished / name).open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
        received = weights_digest(unfinished)
        if received != digest:
            raise ModelError(
                f"The weights {digest[:SHORT]} came from {url} as {received[:SHORT]}; see whether its disk is sound."
            )
        # Another player of this machine may have been faster.
        if not folder.is_dir():
            unfinished.rename(folder)
    except (OSError, ValueError) as error:
        message = f"The weights {digest[:SHORT]} cannot be fetched from {url} ({error})"
        raise ModelError(f"{message}; is the coordinator up, and the token the same?") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_pruned(log: ReadableLog, store: Path) -> None:
    """Remove fetched weights that the log says are not needed any more."""
    for pruned in read_facts(log, WeightsPruned):
        for digest in pruned.digests:
            shutil.rmtree(store / digest, ignore_errors=True)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to nobody else."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _get(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {weights_token()}"})  # noqa: S310  # checked by join
    return urllib.request.build_opener(_NoRedirect).open(request, timeout=_SILENCE_S)
