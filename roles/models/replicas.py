"""vLLM servers with the same weights: a request goes to one of them, a change of weights to all.

Guarantees:
- No server has more than `in_flight` requests at once, whoever sends them.
- Requests that fail for a while are sent again with the same seed, hence to the same effect; a permanent failure is an error
  that names the server.
- The key never appears in a message.
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
"""Timeout for connecting to a server that already runs."""
_KEEPALIVE_S: Final = 3.0
"""Idle connections are closed after so many seconds, before the server closes them after five."""
_OTHERS_POLL_S: Final = 1.0
"""Seconds between looks at whether other clients' requests have ended."""
_MAX_MESSAGE_CHARACTERS: Final = 300
"""Longer error messages of a server are cut."""
_MAX_ERROR_BYTES: Final = 1 << 16
"""Most bytes that are read of an error response."""


@dataclass
class _Replica:
    url: str
    free: asyncio.Semaphore
    liveness: Liveness
    load: int = 0
    """Requests that it has or will get."""


class _HttpError(Exception):
    def __init__(self, status: int, message: str, *, retry_later: bool) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.is_busy = status == 429 or (status == 503 and retry_later)
        self.is_temporary = self.is_busy or status >= 500
        self.is_absent = status == 404


class Replicas:
    """Servers that share requests.

    Args:
        urls: Such as `http://gpu-1:8000`.
        name: Name under which they serve the model.
        holds: Digest of the weights that they were started with.
        in_flight: Most requests that one server has at once; the others wait here.
        timeout_s: Seconds without any answer after which a server is given up; a slow one is waited for.
        sleeps: Whether `sleep` makes them release their GPU's memory.
        key: API key, if they need one.
        check: Raises a ModelError with the reason once the servers have ended, if this process started them.
        activity: Gets progress, and warnings of slow servers.
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
        # Another client may have left them asleep; waking a server that is awake does nothing.
        self._asleep = sleeps
        self._waking = asyncio.Lock()
        self._servers = [self._server(url.rstrip("/"), in_flight) for url in urls]

    def _server(self, url: str, in_flight: int) -> _Replica:
        async def get(path: str) -> tuple[int, str]:
            async with self._http().get(url + path, allow_redirects=False) as response:
                return response.status, await response.text()

        liveness = Liveness(get, self._timeout_s, lambda seconds: self._warn_slow(url, seconds))
        return _Replica(url, asyncio.Semaphore(in_flight), liveness)

    @property
    def note(self) -> str:
        """The load of the servers in words; empty if there are no metrics."""
        loads = [load for server in self._servers if (load := server.liveness.load).at]
        if not loads:
            return ""
        running, waiting, rate = (sum(getattr(load, name) for load in loads) for name in ("running", "waiting", "tokens"))
        return f"vLLM writes {running:.0f}, {waiting:.0f} wait, {rate:,.0f} tokens/s"

    def _warn_slow(self, url: str, seconds: float) -> None:
        note = f" ({self.note})" if self.note else ""
        self.activity.warn(
            f"vLLM at {mask(url)} is slow{note}: a request has been waiting for {format_duration(seconds)}. It is alive and"
            " is waited for; more serve.kv_cache_gib or serve.gpu_memory,"
            " more threads or more replicas make it quicker, fewer attempts"
            " or tokens leave it less to do."
        )

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[str, bytes]:
        """Send a request to one server; its URL and the body of its response. ModelError if it failed for good."""
        await self._wake()
        return await self._persist(self._servers, path, body)

    async def ask_all(self, path: str, body: dict[str, Any], *, absent_ok: bool = False) -> list[tuple[str, bytes]]:
        """Like `ask` of every server; with `absent_ok`, status 404 counts as success, with an empty body."""
        await self._wake()
        return await self._all(path, body, absent_ok=absent_ok)

    async def load(self, weights: Path, policy: Digest, others_wait_s: float = 0.0) -> None:
        """Replace the weights of every server; ModelError if one did not load them.

        `others_wait_s`: seconds to wait for requests of other clients, during which a server forgets no prefixes.
        """
        deadline = time.monotonic() + others_wait_s
        kwargs = {"weights_path": str(weights.resolve())}
        await self.ask_all("/collective_rpc", {"method": "reload_weights", "kwargs": kwargs})
        # Cached prefixes are of the old weights.
        while refusals := [reply for reply in await self.ask_all("/reset_prefix_cache", {}) if b"true" not in reply[1]]:
            if time.monotonic() >= deadline:
                url, response = refusals[0]
                what = f"keeps cached prefixes of older weights ({self._safe(_error_message(response))})"
                raise ModelError(f"vLLM at {mask(url)} {what}; make sure that no other client uses it, and resume.")
            await asyncio.sleep(_OTHERS_POLL_S)
        self.holds = policy

    async def sleep(self) -> None:
        """Release the servers' GPU memory until the next request, where that is configured."""
        async with self._waking:
            if self._sleeps and not self._asleep:
                await self._all("/sleep?level=1", {})
                self._asleep = True

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
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
        """Send a request to the least busy of the servers; after a temporary failure rather to another one."""
        server, pause, failure = servers[0], _FIRST_PAUSE_S, ""
        tries, began = 0, time.monotonic()
        while tries < _MAX_TRIES:
            if failure:
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - spreads load, decides nothing
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._check()
            # The server that failed last sorts behind all others.
            server = min(servers, key=lambda other: (bool(failure) and other is server, other.load))
            tries += 1
            try:
                return server.url, await self._send(server, path, body)
            except aiohttp.ClientError as error:
                failure = f"{type(error).__name__}: {error}"
            except ServerLost:
                self._check()
                failure = f"no answer in {self._timeout_s:g} seconds, not even to /health"
                break
            except _HttpError as error:
                if absent_ok and error.is_absent:
                    return server.url, b""
                failure = str(error)
                if not error.is_temporary:
                    break
                if error.is_busy:
                    # The server's queue is full: that is no failure.
                    tries -= 1
                    if time.monotonic() - began > self._timeout_s:
                        self._warn_slow(server.url, time.monotonic() - began)
                        began = time.monotonic()
        raise ModelError(
            f"vLLM at {mask(server.url)} failed {path} ({self._safe(failure)}); see the server's log, then resume."
        )

    async def _send(self, server: _Replica, path: str, body: dict[str, Any]) -> bytes:
        server.load += 1
        try:
            async with server.free:
                return await server.liveness.during(self._post(server, path, body))
        finally:
            server.load -= 1

    async def _post(self, server: _Replica, path: str, body: dict[str, Any]) -> bytes:
        async with self._http().post(server.url + path, json=body, allow_redirects=False) as response:
            server.liveness.answered()
            if response.status == 200:
                return await response.read()
            message = _error_message(await response.content.read(_MAX_ERROR_BYTES))
            raise _HttpError(response.status, message, retry_later="Retry-After" in response.headers)

    def _http(self) -> aiohttp.ClientSession:
        # Created here, inside the event loop that it belongs to.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, socket_factory=_keepalive_socket),
                # No timeout: `Liveness` decides.
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            )
        return self._session

    def _safe(self, message: str) -> str:
        return one_line(mask(message.replace(self._key, MASK) if self._key else message), _MAX_MESSAGE_CHARACTERS)


async def served_model_name(url: str, key: str | None, timeout_s: float = 600.0) -> str:
    """The name under which a server serves its model, asked once; ModelError without an answer in `timeout_s` seconds."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S), headers=headers
            ) as session,
            session.get(f"{url.rstrip('/')}/v1/models", allow_redirects=False) as response,
        ):
            response.raise_for_status()
            # Entries with a parent are adapters.
            return next(str(card["id"]) for card in (await response.json())["data"] if card.get("parent") is None)
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        why = one_line(mask(f"{type(error).__name__}: {error}"), _MAX_MESSAGE_CHARACTERS)
        raise ModelError(
            f"vLLM at {mask(url)} does not say what it serves ({why}); start it with `gasp serve`, and put its key "
            "into VLLM_API_KEY."
        ) from error


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of concurrent coroutines, in order; the first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket with TCP keep-alive, which notices a dead peer however long a response takes."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def _error_message(body: bytes) -> str:
    """The message of an error response in OpenAI's format, else the whole response."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")
