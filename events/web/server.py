"""The viewer's server: uvicorn with timeouts for slow clients.

A request, its body included, must arrive within ten seconds after the connection was made or the response before it was sent,
and a client must read on within a minute; otherwise the connection is aborted.
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
"""Seconds for a request to arrive, idle time before it included."""
WRITE_TIMEOUT_S: Final = 60.0
"""Seconds in which a client must read some of a response."""
MAX_CONNECTIONS: Final = 512
"""Connections at a time; more get status 503."""
MAX_REQUEST_HEAD: Final = 256 * 1024
"""Bytes of a request's head that are read; `events.web.security` refuses long requests below it."""


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 with timeouts."""

    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio names a base class
        """Start the timer of the first request."""
        super().connection_made(transport)
        self._start_request_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer once the request is complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.SEND_BODY and self.conn.their_state is not h11.IDLE:
            self._stop_request_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request, or one that is too long to be read."""
        unread, _ = self.conn.trailing_data
        if len(unread) <= MAX_REQUEST_HEAD:
            super().send_400_response(msg)
            return
        status = 431 if b"\n" in unread else 414
        fields = [(b"content-length", b"0"), (b"connection", b"close")]
        self.transport.write(self.conn.send(h11.Response(status_code=status, headers=fields)) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Start the timer of the next request, or of the rest of this one."""
        super().on_response_complete()
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and self._request_timer is None:
            self._start_request_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._stop_request_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timer of a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self._abort)

    def resume_writing(self) -> None:
        """Stop the timer of a client that reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_request_timer(self) -> None:
        self._request_timer = self.loop.call_later(REQUEST_TIMEOUT_S, self._abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _abort(self) -> None:
        self.transport.abort()


class ViewerServer(uvicorn.Server):
    """A server that ends live streams when it shuts down; uvicorn would wait for them."""

    def __init__(self, app: ASGIApp, viewer: Viewer) -> None:
        """Configure the server for an application and its viewer."""
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
        """End the live streams, then shut down."""
        self._viewer.end()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # uvicorn names a frame
