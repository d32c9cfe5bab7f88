"""Tells a slow server from a dead one while it is asked something: a slow one is waited for, and told of.

A server lives as long as it answers anything, be it only that it is well. What it has been asked may wait in its queue for any
time meanwhile.
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
"""Most seconds between two questions whether it lives."""
_MIN_CHECKS: Final = 20
"""Such questions, at least, before it is given up."""
_MIN_FAILURES: Final = 3
"""Of them the last, at least, got no answer: whoever was suspended itself finds everything late, and asks again."""
_METRIC: Final = re.compile(
    r"^vllm:(?P<name>num_requests_running|num_requests_waiting|generation_tokens_total)(?:\{[^}]*\})? (?P<value>[\d.e+]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class ServerLoad:
    """What a vLLM server says of its work."""

    running: float = 0
    """Answers that it writes."""
    waiting: float = 0
    """Answers that it has not begun."""
    tokens: float = 0
    """Tokens that it has written, in all or a second."""
    at: float = 0
    """When it said so, by the monotonic clock."""

    @classmethod
    def read(cls, text: str) -> ServerLoad | None:
        """Figures in Prometheus's text format; None where there are none."""
        sums: dict[str, float] = {}
        for found in _METRIC.finditer(text):
            sums[found["name"]] = sums.get(found["name"], 0.0) + float(found["value"])
        if not sums:
            return None
        running, waiting = sums.get("num_requests_running", 0.0), sums.get("num_requests_waiting", 0.0)
        return cls(running, waiting, sums.get("generation_tokens_total", 0.0), time.monotonic())


class ServerLost(Exception):
    """A server gave no sign of life for too long."""


class Liveness:
    """Watches one server as long as it is asked something.

    Args:
        ask: gives status and text of what the server answers to a GET of a path.
        limit_s: seconds without a sign of life after which it is given up.
        slow: told after every `limit_s` seconds that one question has been waiting.
    """

    def __init__(self, ask: Callable[[str], Awaitable[tuple[int, str]]], limit_s: float, slow: Callable[[float], None]) -> None:
        self._ask = ask
        self._limit_s = limit_s
        self._slow = slow
        self._seen = 0.0
        self._failures = 0
        self._since: dict[int, float] = {}
        """When each question was asked that has no answer yet."""
        self._lost: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._before = self._figures = ServerLoad()

    async def during(self, question: Coroutine[Any, Any, _T]) -> _T:
        """The answer to a question, however long it takes while the server lives.

        Raises:
            Lost: it gave no sign of life for too long.
        """
        task = asyncio.create_task(question)
        self._since[id(task)] = time.monotonic()
        if self._watch is None or self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
            self._alive()
            self._watch = asyncio.create_task(self._look(self._lost))
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
            if not self._since and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def answered(self) -> None:
        """It has answered something, whatever it said."""
        self._alive()

    @property
    def figures(self) -> ServerLoad:
        """What it said last of its work, with the tokens that it wrote a second since the time before."""
        before, now = self._before, self._figures
        rate = (now.tokens - before.tokens) / (now.at - before.at) if now.at > before.at > 0 else 0.0
        return replace(now, tokens=rate) if self._since else ServerLoad()

    def _alive(self) -> None:
        self._seen, self._failures = time.monotonic(), 0

    async def _look(self, lost: asyncio.Future[None]) -> None:
        pause = min(_MAX_CHECK_INTERVAL_S, self._limit_s / _MIN_CHECKS)
        told = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            await self._look_once()
            now = time.monotonic()
            if self._failures >= _MIN_FAILURES and now - self._seen > self._limit_s:
                lost.set_result(None)
                self._watch = None
                return
            longest = now - min(self._since.values(), default=now)
            if min(longest, now - told) > self._limit_s:
                told = now
                self._slow(longest)

    async def _look_once(self) -> None:
        status, _ = await self._get("/health")
        if 0 < status < 500:
            self._alive()
        else:
            self._failures += 1
        _, said = await self._get("/metrics")
        if (figures := ServerLoad.read(said)) is not None:
            self._before, self._figures = self._figures, figures

    async def _get(self, path: str) -> tuple[int, str]:
        """Status and text; 0 where there is no answer."""
        try:
            async with asyncio.timeout(self._limit_s / 4):
                return await self._ask(path)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return 0, ""
