"""The log in memory, for tests and small studies.

It keeps the contract of `events.facts.log.Log` in every point but durability.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from datetime import datetime

from events.facts.hashing import ZERO_HASH, blob_hash
from events.facts.log import (
    AnomalyCallback,
    Corruption,
    Event,
    Head,
    ProgressCallback,
    Subscription,
    ignore_anomaly,
    ignore_progress,
)
from events.facts.values import BlobHash
from events.stores.rows import EMPTY_STREAM, Row, StreamEnd, checked_blob, find_corruption, open_row, utc_now, with_progress
from events.stores.transaction import AppendRequest, Appends, TransactionPlan


class MemoryLog(Appends):
    """A `Log` that ends with the process."""

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._grown = threading.Condition(self._lock)
        self._rows: list[Row] = []
        self._ends: dict[str, StreamEnd] = {}
        self._recorded: dict[tuple[str, str], list[Event]] = {}
        self._staged: dict[BlobHash, bytes] = {}
        self._blobs: dict[BlobHash, bytes] = {}

    def _append(self, request: AppendRequest) -> list[Event]:
        with self._lock:
            plan = TransactionPlan(self.head(), self._clock, ends=self._ends, recorded=self._recorded)
            events = plan.add(request)
            self._rows += plan.rows
            self._blobs |= self._staged
            self._staged = {}
            self._grown.notify_all()
            return events

    def _submit(self, request: AppendRequest) -> Future[list[Event]]:
        done: Future[list[Event]] = Future()
        try:
            done.set_result(self._append(request))
        except Exception as error:
            done.set_exception(error)
        return done

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.facts.log.Log.read`. Ends where the log ended when reading began."""
        # Rows are only ever added, so reading needs no lock.
        until = len(self._rows)
        for position in range(max(after, 0), until):
            if limit is not None and limit <= 0:
                return
            row = self._rows[position]
            if (stream is None or row.stream == stream) and (kinds is None or row.kind in kinds):
                yield open_row(row)
                limit = None if limit is None else limit - 1

    def event(self, stream: str, version: int) -> Event | None:
        """See `events.facts.log.Log.event`."""
        return next((open_row(row) for row in self._rows if (row.stream, row.version) == (stream, version)), None)

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`."""
        with self._lock:
            events = self._recorded.get((stream, key))
            return None if events is None else list(events)

    def version(self, stream: str) -> int:
        """See `events.facts.log.Log.version`."""
        return self._ends.get(stream, EMPTY_STREAM).version

    def head(self) -> Head:
        """See `events.facts.log.Log.head`."""
        with self._lock:
            return Head(self._rows[-1].position, self._rows[-1].head) if self._rows else Head(0, ZERO_HASH)

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return MemorySubscription(self._grown, lambda: len(self._rows))

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """See `events.facts.log.Log.verify`."""
        with self._lock:
            return find_corruption(with_progress(list(self._rows), len(self._rows), on_progress), self.head(), self.get)

    def put(self, content: bytes) -> BlobHash:
        """See `events.facts.log.Log.put`."""
        blob = blob_hash(content)
        with self._lock:
            if blob not in self._blobs:
                self._staged[blob] = bytes(content)
        return blob

    def get(self, blob: BlobHash) -> bytes:
        """See `events.facts.log.Log.get`."""
        with self._lock:
            return checked_blob(blob, self._staged.get(blob, self._blobs.get(blob)))

    def get_many(self, blobs: Collection[BlobHash]) -> dict[BlobHash, bytes]:
        """See `events.facts.log.Log.get_many`."""
        return {blob: self.get(blob) for blob in blobs}

    def close(self) -> None:
        """Drop staged blobs; the rest stays readable."""
        self._staged = {}


class MemorySubscription:
    """A `Subscription` in the same process."""

    def __init__(self, grown: threading.Condition, length: Callable[[], int]) -> None:
        self._grown = grown
        self._length = length
        self._seen = length()

    def wait(self, seconds: float) -> bool:
        """See `events.facts.log.Subscription.wait`."""
        with self._grown:
            self._grown.wait_for(lambda: self._length() != self._seen, seconds)
            before, self._seen = self._seen, self._length()
            return self._seen != before

    def close(self) -> None:
        """Nothing to release."""
