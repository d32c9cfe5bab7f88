"""vLLM servers with the same weights: a question goes to one of them, what changes weights to all.

Law: no server is asked more than `in_flight` questions at once, whoever asks; what fails for a while is asked again, with the
same seed and so to the same effect, and what fails for good is an error that names the server. The key is never written down.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from events.errors import ModelError
from events.safe_text import one_line
from events.secrets import MASK, masked
from events.values import Digest

_T = TypeVar("_T")

_TRIES: Final = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
"""The upper ends of the pauses between tries double from the first to the longest; each pause is drawn below its end."""
_CONNECT_S: Final = 10.0
_KEEP_S: Final = 3.0
"""An idle connection is closed before the server does so, which takes it five seconds."""
_SAID: Final = 300
"""Characters of a server's complaint that are shown."""
_LONGEST: Final = 1 << 16
"""Bytes of it that are read."""


@dataclass
class _Server:
    url: str
    free: asyncio.Semaphore
    load: int = 0
    """Questions that it is asked or will be."""


class _Refused(Exception):
    """An answer that is none."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.passes = status == 429 or status >= 500
        self.absent = status == 404


class Replicas:
    """Servers that share questions.

    Args:
        urls: Where they are, such as `http://gpu-1:8000`.
        name: Name under which they serve the model.
        holds: Digest of the weights that they were started with.
        in_flight: Most questions that one server is asked at once; the others wait here.
        timeout_s: Seconds that an answer may take.
        sleeps: Whether they give their GPU's memory back while they rest.
        key: What they ask for in the header `Authorization`, if anything.
        check: Raises a ModelError once they have ended; without it, that they do not answer is all that is known.
    """

    def __init__(
        self,
        urls: Sequence[str],
        name: str,
        holds: Digest,
        *,
        in_flight: int = 256,
        timeout_s: float = 600.0,
        sleeps: bool = False,
        key: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.holds = holds
        self.slots = in_flight * len(urls)
        self._servers = [_Server(url.rstrip("/"), asyncio.Semaphore(in_flight)) for url in urls]
        self._timeout_s = timeout_s
        self._key = key
        self._check = check
        self._session: aiohttp.ClientSession | None = None
        self._sleeps = sleeps
        # Servers that somebody else left asleep are woken too; to wake the wakeful does nothing.
        self._asleep = sleeps
        self._waking = asyncio.Lock()

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[str, bytes]:
        """The URL of a server, and its answer.

        Raises:
            ModelError: there is none.
        """
        await self._wake()
        return await self._persist(self._servers, path, body)

    async def ask_all(self, path: str, body: dict[str, Any], *, absent_ok: bool = False) -> list[tuple[str, bytes]]:
        """URL and answer of every server.

        Raises:
            ModelError: one did not answer; but that it has no such thing may be what was wanted.
        """
        await self._wake()
        return await self._all(path, body, absent_ok=absent_ok)

    async def load(self, weights: Path, policy: Digest) -> None:
        """Put other weights in the place of those that the servers hold.

        Raises:
            ModelError: a server did not take them.
        """
        kwargs = {"weights_path": str(weights.resolve())}
        await self.ask_all("/collective_rpc", {"method": "reload_weights", "kwargs": kwargs})
        for url, said in await self.ask_all("/reset_prefix_cache", {}):
            if b"true" not in said:
                what = f"keeps answers of older weights ({self._safe(_shown(said))})"
                raise ModelError(f"vLLM at {masked(url)} {what}; let nobody else ask it, and go on")
        self.holds = policy

    async def rest(self) -> None:
        """Let the servers give back their GPUs' memory until they are asked again, where that is set."""
        async with self._waking:
            if self._sleeps and not self._asleep:
                await self._all("/sleep?level=1", {})
                self._asleep = True

    async def close(self) -> None:
        """Let go of all connections. Safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _wake(self) -> None:
        async with self._waking:
            if self._asleep:
                await self._all("/wake_up", {})
                self._asleep = False

    async def _all(self, path: str, body: dict[str, Any], *, absent_ok: bool = False) -> list[tuple[str, bytes]]:
        return await together(self._persist([server], path, body, absent_ok=absent_ok) for server in self._servers)

    async def _persist(
        self, servers: Sequence[_Server], path: str, body: dict[str, Any], *, absent_ok: bool = False
    ) -> tuple[str, bytes]:
        """Ask the least busy of the servers; after a failure that may pass, rather another one."""
        server, pause, said = servers[0], _FIRST_PAUSE_S, ""
        for tried in range(_TRIES):
            if tried:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load, decides nothing
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._check()
            server = min(servers, key=lambda one: (tried > 0 and one is server, one.load))
            try:
                return server.url, await self._send(server, path, body)
            except aiohttp.ClientError as error:
                said = f"{type(error).__name__}: {error}"
            except TimeoutError:
                said = f"no answer in {self._timeout_s:g} seconds"
                break
            except _Refused as error:
                if absent_ok and error.absent:
                    return server.url, b""
                said = str(error)
                if not error.passes:
                    break
        raise ModelError(
            f"vLLM at {masked(server.url)} failed {path} ({self._safe(said)}); see the server's log, and go on once it is well"
        )

    async def _send(self, server: _Server, path: str, body: dict[str, Any]) -> bytes:
        server.load += 1
        try:
            async with (
                server.free,
                asyncio.timeout(self._timeout_s),
                self._connected().post(server.url + path, json=body, allow_redirects=False) as answer,
            ):
                if answer.status == 200:
                    return await answer.read()
                raise _Refused(answer.status, _shown(await answer.content.read(_LONGEST)))
        finally:
            server.load -= 1

    def _connected(self) -> aiohttp.ClientSession:
        # Made within the loop that it belongs to.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            )
        return self._session

    def _safe(self, said: str) -> str:
        return one_line(masked(said.replace(self._key, MASK) if self._key else said), _SAID)


async def name_at(url: str, key: str | None) -> str:
    """What a server that runs already calls the weights that it holds. It is asked once: it runs, or it does not.

    Raises:
        ModelError: it does not say.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CONNECT_S), headers=headers) as session,
            session.get(f"{url.rstrip('/')}/v1/models", allow_redirects=False) as answer,
        ):
            answer.raise_for_status()
            # An adapter has a parent.
            return next(str(card["id"]) for card in (await answer.json())["data"] if card.get("parent") is None)
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        why = one_line(masked(f"{type(error).__name__}: {error}"), _SAID)
        raise ModelError(
            f"vLLM at {masked(url)} does not say what it serves ({why}); start it with python -m roles.serve, and put its key "
            "into VLLM_API_KEY"
        ) from error


async def together(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results in order; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


def _shown(said: bytes) -> str:
    """A complaint in the server's own words, where it has the usual form."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return said.decode(errors="replace")
