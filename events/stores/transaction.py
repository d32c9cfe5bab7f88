"""Plans one transaction of a store: the rows and keys that its appends write, and the events that each append returns.

Guarantees: an append is planned whole or not at all, and sees those planned before it in the same transaction.
Not responsible for: I/O. The store sets `ends` and `recorded` before it adds a request, and writes `rows` and `keys` after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from events.facts.errors import Conflict, LogError
from events.facts.fact import Fact
from events.facts.log import Event, Head
from events.facts.upcast import UPCASTERS, Upcaster
from events.stores.rows import EMPTY_STREAM, Row, StreamEnd, open_row, seal, utc_now
from events.stores.tally import Tally


@dataclass(frozen=True)
class AppendRequest:
    """Arguments of an append."""

    stream: str
    facts: Sequence[Fact]
    expected: int | None = None
    causation: int | None = None
    observed: Mapping[str, Any] | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that not every store can keep."""
        for name in (self.stream, self.key):
            if name is not None and (not name or "\0" in name or not _is_text(name)):
                raise LogError(f"{name!r} cannot name a stream or a key; give it some valid Unicode text without NUL.")


class Appends(ABC):
    """`append` and `submit` of a log, made from requests."""

    @abstractmethod
    def _append(self, request: AppendRequest) -> list[Event]:
        """The events of the request, once they are durable."""

    @abstractmethod
    def _submit(self, request: AppendRequest) -> Future[list[Event]]:
        """The same, without waiting."""

    def append(
        self,
        stream: str,
        facts: Sequence[Fact],
        *,
        expected: int | None = None,
        causation: int | None = None,
        observed: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> list[Event]:
        """See `events.facts.log.Log.append`."""
        return self._append(AppendRequest(stream, facts, expected, causation, observed, key))

    def submit(
        self,
        stream: str,
        facts: Sequence[Fact],
        *,
        expected: int | None = None,
        causation: int | None = None,
        observed: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Future[list[Event]]:
        """See `events.facts.log.Log.submit`."""
        return self._submit(AppendRequest(stream, facts, expected, causation, observed, key))


class Key(NamedTuple):
    """Events of a stream that were appended under a key; the order of the fields is the order of the table's columns."""

    stream: str
    key: str
    version: int
    """Version of the first."""
    size: int
    """Number of events."""


@dataclass
class TransactionPlan:
    """The rows and keys of one transaction."""

    tip: Head
    """End of the log, planned rows included."""
    clock: Callable[[], datetime] = utc_now
    upcasters: Mapping[tuple[str, int], Upcaster] = field(default_factory=lambda: UPCASTERS)
    ends: dict[str, StreamEnd] = field(default_factory=dict)
    """Ends of the streams; one that is missing here is empty."""
    recorded: dict[tuple[str, str], list[Event]] = field(default_factory=dict)
    """Events that were appended earlier under a key, by stream and key."""
    tally: Tally | None = None
    """Counts of the log, planned rows excluded; None where the log keeps none."""
    rows: list[Row] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    def add(self, request: AppendRequest) -> list[Event]:
        """The events of the request: those it appends, or those that were recorded under its key.

        Raises:
            Conflict: the stream is at another version.
            LogError: a fact cannot be written.
        """
        stream, key = request.stream, request.key
        if key is not None and (stream, key) in self.recorded:
            return list(self.recorded[stream, key])
        end = self.ends.get(stream, EMPTY_STREAM)
        if request.expected not in (None, end.version):
            message = f"Stream {stream!r} is at version {end.version}, not at {request.expected}"
            raise Conflict(f"{message}; another writer was faster, re-read and retry.")
        rows = seal(
            request.facts, stream, end, tip=self.tip, time=self.clock(), causation=request.causation, observed=request.observed
        )
        # Read back as any reader would: what cannot be read again is refused before it is written.
        events = [open_row(row, self.upcasters) for row in rows]
        if rows:
            self.rows += rows
            self.ends[stream] = StreamEnd(rows[-1].version, rows[-1].hash)
            self.tip = Head(rows[-1].position, rows[-1].head)
        if key is not None:
            self.keys.append(Key(stream, key, end.version + 1, len(rows)))
            self.recorded[stream, key] = events
        return events


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
