"""Server-sent events: streams that report the position of a run, or of all runs; a browser then fetches its page again.

Guarantees: the event loop is never blocked, and streams end with the viewer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from events.web.view.notifier import Notifier
from events.web.view.run_handle import RunHandle
from events.web.view.viewer import RESCAN_S, Viewer

PAUSE_S = 0.3
"""Seconds between two reports, at least."""
HEARTBEAT_S = 15.0
"""Seconds after which a comment is sent though nothing changed, so that lost connections are noticed."""


async def run_stream(request: Request) -> StreamingResponse:
    """The stream of one run."""
    viewer: Viewer = request.app.state.viewer
    run: RunHandle = await run_in_threadpool(viewer.run, request.path_params["run"])
    return _response(_reports(viewer, run.notifier, lambda: {"position": run.position, "finished": run.finished}, HEARTBEAT_S))


async def all_runs_stream(request: Request) -> StreamingResponse:
    """The stream of all runs; folders are scanned for new runs while a client listens."""
    viewer: Viewer = request.app.state.viewer
    return _response(_reports(viewer, viewer.notifier, lambda: {"position": viewer.position, "finished": False}, RESCAN_S))


def _response(texts: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(texts, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _reports(
    viewer: Viewer, notifier: Notifier, state: Callable[[], dict[str, Any]], timeout: float
) -> AsyncIterator[str]:
    last = None
    with notifier.subscription() as rung:
        while not viewer.closing:
            rung.clear()
            now = await run_in_threadpool(state)
            yield ": still here\n\n" if now == last else f"event: moved\ndata: {json.dumps(now)}\n\n"
            last = now
            await asyncio.sleep(PAUSE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), timeout)
