"""A log whose database may be away for a while: reads and keyed appends are repeated until it is back.

An append without a key whose commit was lost is not repeated, since it may have happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from events.facts.errors import InDoubt, LogError, LogUnreachable
from events.facts.log import (
    AnomalyCallback,
    Corruption,
    Event,
    Head,
    Log,
    ProgressCallback,
    Subscription,
    ignore_anomaly,
    ignore_progress,
)
from events.facts.values import BlobHash
from events.stores.transaction import AppendRequest, Appends
from events.text.logging import logger

OUTAGE_S = 60.0
"""Seconds that a database may be away."""
_PAUSE_S = 0.2
ResultT = TypeVar("ResultT")


class PatientLog(Appends):
    """A `Log` over another one."""

    def __init__(self, inner: Log, *, outage_s: float = OUTAGE_S) -> None:
        """Wait `outage_s` seconds for the database, each time that it is away."""
        self._inner = inner
        self._outage_s = outage_s

    def _append(self, request: AppendRequest) -> list[Event]:
        return self._repeat(lambda: self._inner.append(**vars(request)), in_doubt=request.key is not None)

    def _submit(self, request: AppendRequest) -> Future[list[Event]]:
        outcome: Future[list[Event]] = Future()

        def settle(append: Callable[[], list[Event]]) -> None:
            try:
                outcome.set_result(append())
            except BaseException as error:
                outcome.set_exception(error)

        def settle_or_repeat(submitted: Future[list[Event]]) -> None:
            if isinstance(submitted.exception(), LogUnreachable | InDoubt):
                # Not on the writer's thread, which the repetition needs.
                Thread(target=settle, args=(lambda: self._append(request),), daemon=True).start()
            else:
                settle(submitted.result)

        self._inner.submit(**vars(request)).add_done_callback(settle_or_repeat)
        return outcome

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.facts.log.Log.read`."""
        deadline = None
        while True:
            try:
                for event in self._inner.read(stream, after=after, kinds=kinds, limit=limit):
                    yield event
                    after, limit, deadline = event.position, None if limit is None else limit - 1, None
                return
            except LogUnreachable as error:
                deadline = self._pause(deadline, error)

    def event(self, stream: str, version: int) -> Event | None:
        """See `events.facts.log.Log.event`."""
        return self._repeat(lambda: self._inner.event(stream, version))

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`."""
        return self._repeat(lambda: self._inner.recorded(stream, key))

    def version(self, stream: str) -> int:
        """See `events.facts.log.Log.version`."""
        return self._repeat(lambda: self._inner.version(stream))

    def head(self) -> Head:
        """See `events.facts.log.Log.head`."""
        return self._repeat(self._inner.head)

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return _PatientSubscription(self._repeat(self._inner.subscribe))

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """See `events.facts.log.Log.verify`."""
        return self._inner.verify(on_progress, on_anomaly)

    def put(self, content: bytes) -> BlobHash:
        """See `events.facts.log.Log.put`."""
        return self._inner.put(content)

    def get(self, blob: BlobHash) -> bytes:
        """See `events.facts.log.Log.get`."""
        return self._repeat(lambda: self._inner.get(blob))

    def get_many(self, blobs: Collection[BlobHash]) -> dict[BlobHash, bytes]:
        """See `events.facts.log.Log.get_many`."""
        return self._repeat(lambda: self._inner.get_many(blobs))

    def close(self) -> None:
        """See `events.facts.log.Log.close`."""
        self._inner.close()

    def _repeat(self, call: Callable[[], ResultT], *, in_doubt: bool = False) -> ResultT:
        deadline = None
        while True:
            try:
                return call()
            except (LogUnreachable, InDoubt) as error:
                if isinstance(error, InDoubt) and not in_doubt:
                    raise
                deadline = self._pause(deadline, error)

    def _pause(self, deadline: float | None, error: LogError) -> float:
        """Wait a moment, and return the end of the outage that is waited for; raise the error once that has passed."""
        if deadline is None:
            logger().warning("log_away", error=type(error).__name__, message=str(error))
            deadline = time.monotonic() + self._outage_s
        if time.monotonic() > deadline:
            raise error
        time.sleep(_PAUSE_S)
        return deadline


class _PatientSubscription:
    def __init__(self, inner: Subscription) -> None:
        self._inner = inner

    def wait(self, seconds: float) -> bool:
        try:
            return self._inner.wait(seconds)
        except LogError:
            time.sleep(min(seconds, _PAUSE_S))
            return True

    def close(self) -> None:
        self._inner.close()
