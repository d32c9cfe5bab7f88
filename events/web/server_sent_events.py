"""Tells browsers when a run moved: a stream of server-sent events, an address a run and one for all.

Law: it says how far things are and nothing else; whoever hears it asks for the page again. It never blocks the event loop,
and ends when the viewer does.
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
"""Shortest time between two moves that are told."""
HEARTBEAT_S = 15.0
"""How often something is sent though nothing moved, so that lost connections are noticed."""


async def run_stream(request: Request) -> StreamingResponse:
    """The stream of one run."""
    viewer: Viewer = request.app.state.viewer
    run: RunHandle = await run_in_threadpool(viewer.run, request.path_params["run"])
    return _stream(_moves(viewer, run.notifier, lambda: {"position": run.position, "finished": run.finished}, HEARTBEAT_S))


async def all_runs_stream(request: Request) -> StreamingResponse:
    """The stream of all runs; new ones are looked for while somebody listens."""
    viewer: Viewer = request.app.state.viewer
    return _stream(_moves(viewer, viewer.notifier, lambda: {"position": viewer.position, "finished": False}, RESCAN_S))


def _stream(texts: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(texts, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _moves(viewer: Viewer, bell: Notifier, state: Callable[[], dict[str, Any]], patience: float) -> AsyncIterator[str]:
    told = None
    with bell.subscription() as rung:
        while not viewer.closing:
            rung.clear()
            now = await run_in_threadpool(state)
            yield ": still here\n\n" if now == told else f"event: moved\ndata: {json.dumps(now)}\n\n"
            told = now
            await asyncio.sleep(PAUSE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), patience)
