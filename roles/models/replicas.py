"""vLLM servers with the same weights: a question goes to one of them, what changes weights to all.

Law: no server is asked more than `in_flight` questions at once, whoever asks; what fails for a while is asked again, with the
same seed and so to the same effect, and what fails for good is an error that names the server. The key is never written down.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from events.facts.errors import ModelError
from events.facts.values import Digest
from events.process.activity import Activity, format_duration
from events.text.safe_text import one_line
from events.text.secrets import MASK, mask
from roles.models.liveness import Liveness, ServerLost

_T = TypeVar("_T")

_MAX_TRIES: Final = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 15.0
"""The upper ends of the pauses between tries double from the first to the longest; each pause is drawn below its end."""
_CONNECT_S: Final = 10.0
"""Seconds in which a server that is said to run already must be reachable."""
_KEEPALIVE_S: Final = 3.0
"""An idle connection is closed before the server does so, which takes it five seconds."""
_MAX_MESSAGE_CHARACTERS: Final = 300
"""Characters of a server's complaint that are shown."""
_MAX_ERROR_BYTES: Final = 1 << 16
"""Bytes of it that are read."""


@dataclass
class _Replica:
    url: str
    free: asyncio.Semaphore
    liveness: Liveness
    load: int = 0
    """Questions that it is asked or will be."""


class _HttpError(Exception):
    """An answer that is none."""

    def __init__(self, status: int, said: str, *, later: bool) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.busy = status == 429 or (status == 503 and later)
        self.passes = self.busy or status >= 500
        self.absent = status == 404


class Replicas:
    """Servers that share questions.

    Args:
        urls: Where they are, such as `http://gpu-1:8000`.
        name: Name under which they serve the model.
        holds: Digest of the weights that they were started with.
        in_flight: Most questions that one server is asked at once; the others wait here.
        timeout_s: Seconds without any sign of life after which a server is given up; a slow one is waited for.
        sleeps: Whether they give their GPU's memory back while they rest.
        key: What they ask for in the header `Authorization`, if anything.
        check: Raises a ModelError once they have ended; without it, that they do not answer is all that is known.
        activity: Told of slow servers.
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
        activity: Activity | None = None,
    ) -> None:
        self.name = name
        self.holds = holds
        self.slots = in_flight * len(urls)
        self.activity = activity or Activity()
        self._timeout_s = timeout_s
        self._key = key
        self._check = check
        self._session: aiohttp.ClientSession | None = None
        self._sleeps = sleeps
        # Servers that somebody else left asleep are woken too; to wake the wakeful does nothing.
        self._asleep = sleeps
        self._waking = asyncio.Lock()
        self._servers = [self._server(url.rstrip("/"), in_flight) for url in urls]

    def _server(self, url: str, in_flight: int) -> _Replica:
        async def ask(path: str) -> tuple[int, str]:
            async with self._connected().get(url + path, allow_redirects=False) as answer:
                return answer.status, await answer.text()

        liveness = Liveness(ask, self._timeout_s, lambda seconds: self._tell_slow(url, seconds))
        return _Replica(url, asyncio.Semaphore(in_flight), liveness)

    @property
    def note(self) -> str:
        """What the servers are doing, for people; empty where they do not say."""
        found = [figures for server in self._servers if (figures := server.liveness.figures).at]
        if not found:
            return ""
        running, waiting, rate = (sum(getattr(one, name) for one in found) for name in ("running", "waiting", "tokens"))
        return f"vLLM writes {running:.0f}, {waiting:.0f} wait, {rate:,.0f} tokens/s"

    def _tell_slow(self, url: str, seconds: float) -> None:
        note = f" ({self.note})" if self.note else ""
        self.activity.warn(
            f"vLLM at {mask(url)} is slow{note}: a question has been waiting for {format_duration(seconds)}. It is well, and"
            " is waited for; more serve.kv_cache_gib or serve.gpu_memory,"
            " more threads or more replicas make it quicker, fewer attempts"
            " or tokens leave it less to do"
        )

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
                what = f"keeps answers of older weights ({self._safe(_error_message(said))})"
                raise ModelError(f"vLLM at {mask(url)} {what}; let nobody else ask it, and go on.")
        self.holds = policy

    async def sleep(self) -> None:
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
        return await gather_or_cancel(self._persist([server], path, body, absent_ok=absent_ok) for server in self._servers)

    async def _persist(
        self, servers: Sequence[_Replica], path: str, body: dict[str, Any], *, absent_ok: bool = False
    ) -> tuple[str, bytes]:
        """Ask the least busy of the servers; after a failure that may pass, rather another one."""
        server, pause, said = servers[0], _FIRST_PAUSE_S, ""
        tried, began = 0, time.monotonic()
        while tried < _MAX_TRIES:
            if said:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load, decides nothing
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._check()
            server = min(servers, key=lambda one: (bool(said) and one is server, one.load))
            tried += 1
            try:
                return server.url, await self._send(server, path, body)
            except aiohttp.ClientError as error:
                said = f"{type(error).__name__}: {error}"
            except ServerLost:
                self._check()
                said = f"no sign of life in {self._timeout_s:g} seconds, not even an answer to /health"
                break
            except _HttpError as error:
                if absent_ok and error.absent:
                    return server.url, b""
                said = str(error)
                if not error.passes:
                    break
                if error.busy:
                    # It is full, and says so: that is a queue, and no failure.
                    tried -= 1
                    if time.monotonic() - began > self._timeout_s:
                        self._tell_slow(server.url, time.monotonic() - began)
                        began = time.monotonic()
        raise ModelError(
            f"vLLM at {mask(server.url)} failed {path} ({self._safe(said)}); see the server's log, and go on once it is well."
        )

    async def _send(self, server: _Replica, path: str, body: dict[str, Any]) -> bytes:
        server.load += 1
        try:
            async with server.free:
                return await server.liveness.during(self._post(server, path, body))
        finally:
            server.load -= 1

    async def _post(self, server: _Replica, path: str, body: dict[str, Any]) -> bytes:
        async with self._connected().post(server.url + path, json=body, allow_redirects=False) as answer:
            server.liveness.answered()
            if answer.status == 200:
                return await answer.read()
            later = "Retry-After" in answer.headers
            raise _HttpError(answer.status, _error_message(await answer.content.read(_MAX_ERROR_BYTES)), later=later)

    def _connected(self) -> aiohttp.ClientSession:
        # Made within the loop that it belongs to.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, socket_factory=_keepalive_socket),
                # What is too long, `Liveness` says.
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            )
        return self._session

    def _safe(self, said: str) -> str:
        return one_line(mask(said.replace(self._key, MASK) if self._key else said), _MAX_MESSAGE_CHARACTERS)


async def served_model_name(url: str, key: str | None, timeout_s: float = 600.0) -> str:
    """What a server that runs already calls the weights that it holds. It is asked once: it runs, or it does not.

    Raises:
        ModelError: it does not say so in `timeout_s` seconds, or cannot be reached.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S), headers=headers
            ) as session,
            session.get(f"{url.rstrip('/')}/v1/models", allow_redirects=False) as answer,
        ):
            answer.raise_for_status()
            # An adapter has a parent.
            return next(str(card["id"]) for card in (await answer.json())["data"] if card.get("parent") is None)
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        why = one_line(mask(f"{type(error).__name__}: {error}"), _MAX_MESSAGE_CHARACTERS)
        raise ModelError(
            f"vLLM at {mask(url)} does not say what it serves ({why}); start it with python -m roles.serve, and put its key "
            "into VLLM_API_KEY."
        ) from error


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results in order; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices, however long an answer takes, when nobody is at the other end any more."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _error_message(said: bytes) -> str:
    """A complaint in the server's own words, where it has the usual form."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return said.decode(errors="replace")
