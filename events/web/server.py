"""The server of the viewer: uvicorn with limits on what a connection may do without saying anything.

A request, its body included, has to be whole ten seconds after the connection was made or the answer before it was sent;
so has the reader of an answer to take it. Whoever is slower is let go: half-sent requests hold no connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from events.web.view.viewer import Viewer

REQUEST_TIMEOUT_S: Final = 10.0
"""How long a request may take to arrive, and how long a connection may be idle."""
WRITE_TIMEOUT_S: Final = 60.0
"""How long somebody may take no byte of an answer."""
MAX_CONNECTIONS: Final = 512
"""Connections at a time; more are told that the viewer is busy."""
MAX_REQUEST_HEAD: Final = 256 * 1024
"""Bytes of a request's head that are read at all; what is too long is said before that, by `events.web.security`."""


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a time limit on requests."""

    _whole: asyncio.TimerHandle | None = None
    _taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take what came, and stop waiting once a request is whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.SEND_BODY and self.conn.their_state is not h11.IDLE:
            self._cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or so long that it was not read."""
        unread, _ = self.conn.trailing_data
        if len(unread) <= MAX_REQUEST_HEAD:
            super().send_400_response(msg)
            return
        status = 431 if b"\n" in unread else 414
        fields = [(b"content-length", b"0"), (b"connection", b"close")]
        self.transport.write(self.conn.send(h11.Response(status_code=status, headers=fields)) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the rest of this request, or for the next one."""
        super().on_response_complete()
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and self._whole is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._cancel()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start to wait for the reader of an answer."""
        super().pause_writing()
        self._taken = self.loop.call_later(WRITE_TIMEOUT_S, self._let_go)

    def resume_writing(self) -> None:
        """Go on: the answer is being read."""
        super().resume_writing()
        if self._taken is not None:
            self._taken.cancel()
            self._taken = None

    def _expect(self) -> None:
        self._whole = self.loop.call_later(REQUEST_TIMEOUT_S, self._let_go)

    def _cancel(self) -> None:
        if self._whole is not None:
            self._whole.cancel()
            self._whole = None

    def _let_go(self) -> None:
        self.transport.abort()


class ViewerServer(uvicorn.Server):
    """Lets live streams end when it is told to end; it would wait for them."""

    def __init__(self, app: ASGIApp, viewer: Viewer) -> None:
        """Serve an app, which shows the runs of a viewer."""
        self._viewer = viewer
        config = uvicorn.Config(
            app,
            http=TimeoutProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_REQUEST_HEAD,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: object) -> None:
        """End, and let the live streams end first."""
        self._viewer.end()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]
