"""Distinguishes a slow server from a dead one while requests wait: a slow one is waited for, with a warning.

A server is alive as long as it answers anything, if only its health check; requests may wait in its queue for any time.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import aiohttp

_T = TypeVar("_T")

_MAX_CHECK_INTERVAL_S: Final = 5.0
"""Most seconds between two health checks."""
_MIN_CHECKS: Final = 20
"""At least so many health checks happen before a server is given up."""
_MIN_FAILURES: Final = 3
"""The last so many must have failed: after a suspension of this process itself everything seems late, and is checked again."""
_METRIC: Final = re.compile(
    r"^vllm:(?P<name>num_requests_running|num_requests_waiting|generation_tokens_total)(?:\{[^}]*\})? (?P<value>[\d.e+]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class ServerLoad:
    """The load of a vLLM server by its own metrics."""

    running: float = 0
    """Requests that it generates tokens for."""
    waiting: float = 0
    """Requests in its queue."""
    tokens: float = 0
    """Tokens generated in total, or per second."""
    at: float = 0
    """Monotonic time of the metrics; 0: there are none."""

    @classmethod
    def read(cls, text: str) -> ServerLoad | None:
        """Parse metrics in Prometheus's text format; None if there are none."""
        sums: dict[str, float] = {}
        for match in _METRIC.finditer(text):
            sums[match["name"]] = sums.get(match["name"], 0.0) + float(match["value"])
        if not sums:
            return None
        running, waiting = sums.get("num_requests_running", 0.0), sums.get("num_requests_waiting", 0.0)
        return cls(running, waiting, sums.get("generation_tokens_total", 0.0), time.monotonic())


class ServerLost(Exception):
    """A server has answered nothing for too long."""


class Liveness:
    """Watches one server while it has open requests.

    Args:
        get: status and text of a GET of a path.
        limit_s: seconds without any answer after which the server is given up.
        on_slow: called each time that a request has been waiting for another `limit_s` seconds, with its age in seconds.
    """

    def __init__(
        self, get: Callable[[str], Awaitable[tuple[int, str]]], limit_s: float, on_slow: Callable[[float], None]
    ) -> None:
        self._fetch = get
        self._limit_s = limit_s
        self._on_slow = on_slow
        self._seen = 0.0
        self._failures = 0
        self._since: dict[int, float] = {}
        """Start times of the open requests."""
        self._lost: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._before = self._load = ServerLoad()

    async def during(self, request: Coroutine[Any, Any, _T]) -> _T:
        """Await a request, however long it takes while the server is alive; ServerLost if it answers nothing for too long."""
        task = asyncio.create_task(request)
        self._since[id(task)] = time.monotonic()
        if self._watcher is None or self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
            self.answered()
            self._watcher = asyncio.create_task(self._watch(self._lost))
        lost = self._lost
        try:
            both: list[asyncio.Future[Any]] = [task, lost]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ServerLost
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del self._since[id(task)]
            if not self._since and self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None

    def answered(self) -> None:
        """Note that the server has answered something."""
        self._seen, self._failures = time.monotonic(), 0

    @property
    def load(self) -> ServerLoad:
        """The latest metrics, with tokens per second since those before."""
        before, now = self._before, self._load
        rate = (now.tokens - before.tokens) / (now.at - before.at) if now.at > before.at > 0 else 0.0
        return replace(now, tokens=rate) if self._since else ServerLoad()

    async def _watch(self, lost: asyncio.Future[None]) -> None:
        pause = min(_MAX_CHECK_INTERVAL_S, self._limit_s / _MIN_CHECKS)
        warned = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            await self._check()
            now = time.monotonic()
            if self._failures >= _MIN_FAILURES and now - self._seen > self._limit_s:
                lost.set_result(None)
                self._watcher = None
                return
            longest = now - min(self._since.values(), default=now)
            if min(longest, now - warned) > self._limit_s:
                warned = now
                self._on_slow(longest)

    async def _check(self) -> None:
        status, _ = await self._get("/health")
        if 0 < status < 500:
            self.answered()
        else:
            self._failures += 1
        _, metrics = await self._get("/metrics")
        if (load := ServerLoad.read(metrics)) is not None:
            self._before, self._load = self._load, load

    async def _get(self, path: str) -> tuple[int, str]:
        try:
            async with asyncio.timeout(self._limit_s / 4):
                return await self._fetch(path)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return 0, ""
