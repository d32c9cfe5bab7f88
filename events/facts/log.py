"""The interface of the event log: append facts to a stream, read events by position.

Guarantees:
- Events are never changed or removed; positions grow in commit order; a stream's versions have no gaps.
- Texts and arrays are staged with `put` and become durable together with the next `append`.

Implementations: `MemoryLog`, `SqliteLog` and `PostgresLog` in `events.stores`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from events.facts.errors import BadInput
from events.facts.fact import Fact
from events.facts.streams import RUN
from events.facts.types import AnyFact, RunStarted
from events.facts.values import BlobHash

FactT = TypeVar("FactT", bound=Fact)


class Event(NamedTuple):
    """A fact with its position, stream, version and hashes."""

    position: int
    """Number in the whole log, from 1."""
    stream: str
    """`run`, `goalposts`, `episode/00003/012`, `policy/shared` ...: see `events.facts.streams`."""
    version: int
    """Number in the stream, from 1."""
    fact: AnyFact
    """What happened."""
    causation: int | None
    """Version, in the same stream, of the event that led to this one."""
    prev_hash: str
    """`hash` of the stream's previous event, 64 zeros for the first."""
    hash: str
    """SHA-256 over prev_hash, stream, version, kind, schema, data and causation; times and measures stay outside."""
    head: str
    """SHA-256 over the previous position's head and this hash: one value for the whole log up to here."""
    time: datetime
    """When it was appended (UTC); never used for order, outside the hash."""
    observed: dict[str, Any]
    """Measures of clocks and machines (seconds, tokens/s); outside the hash, so that equal runs have equal heads."""

    def plain_data(self) -> dict[str, Any]:
        """The event as JSON has it, the time with `Z` for UTC."""
        time = self.time.isoformat().replace("+00:00", "Z")
        return {**self._asdict(), "fact": self.fact.model_dump(mode="json"), "time": time}


class Head(NamedTuple):
    """The end of a log: its last position, and the head digest there; `(0, 64 zeros)` when empty."""

    position: int
    digest: str


class Corruption(NamedTuple):
    """The first position where the log contradicts itself, and how."""

    position: int
    problem: str


ProgressCallback = Callable[[int, int], None]
"""Called now and then with the number of events done and their total."""


def ignore_progress(done: int, total: int) -> None:
    """Do nothing."""


AnomalyCallback = Callable[[str], None]
"""Called with a sentence about something odd that no hash covers."""


def ignore_anomaly(text: str) -> None:
    """Do nothing."""


class Subscription(Protocol):
    """Notices appends to a log, from its creation on."""

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for an append since the last call; whether there was one. True may be a false alarm."""

    def close(self) -> None:
        """Release it."""


class ReadableLog(Protocol):
    """The reading half of a log."""

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """Events behind position `after`, in order; of one stream and of some kinds if asked, `limit` at most."""

    def event(self, stream: str, version: int) -> Event | None:
        """The event with this version in the stream; None if there is none."""

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """The events that were appended to the stream under this key; None if there was no such append."""

    def version(self, stream: str) -> int:
        """Version of the stream's last event, 0 if there is none."""

    def head(self) -> Head:
        """Last position and the head digest there; position 0 and 64 zeros when empty."""

    def subscribe(self) -> Subscription:
        """A new subscription to appends by anybody, this log included. Close it after use."""

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """Recompute every hash, the heads and the blobs; None if all is well.

        Args:
            on_progress: called now and then with the events verified and their total.
            on_anomaly: called, if all hashes hold, with each oddity that no hash covers: unreferenced blobs, missing triggers.
        """

    def get(self, blob: BlobHash) -> bytes:
        """A blob's content, checked against its hash.

        Raises:
            LogCorrupt: it is missing or does not match.
        """

    def get_many(self, blobs: Collection[BlobHash]) -> dict[BlobHash, bytes]:
        """The contents of blobs, as `get` has them, by as few queries as possible."""

    def close(self) -> None:
        """Release the store. Staged blobs that no append made durable are dropped."""


def first_event(log: ReadableLog, stream: str, kind: str | None = None) -> Event | None:
    """The first event of a stream, of one kind if asked; None if there is none."""
    return next(log.read(stream, kinds=None if kind is None else (kind,), limit=1), None)


def event_at(log: ReadableLog, position: int) -> Event | None:
    """The event at a position; None if there is none."""
    event = next(log.read(after=position - 1, limit=1), None)
    return event if event is not None and event.position == position else None


def read_facts(
    log: ReadableLog, kind: type[FactT], stream: str | None = None, *, after: int = 0, limit: int | None = None
) -> Iterator[FactT]:
    """The facts of one class, without their events; see `ReadableLog.read`."""
    for event in log.read(stream, after=after, kinds=(kind.model_fields["kind"].default,), limit=limit):
        assert isinstance(event.fact, kind)
        yield event.fact


def first_fact(log: ReadableLog, stream: str, kind: type[FactT]) -> FactT | None:
    """The first fact of a class in a stream; None if there is none."""
    return next(read_facts(log, kind, stream, limit=1), None)


def find_run_started(log: ReadableLog) -> RunStarted | None:
    """The run's first fact; None where no run has begun."""
    return first_fact(log, RUN, RunStarted)


def run_started(log: ReadableLog) -> RunStarted:
    """The first event of a run; BadInput if the log holds no run."""
    if (started := find_run_started(log)) is not None:
        return started
    raise BadInput("The log holds no run: its first event is missing; the run never started, so start a new one.")


class Log(ReadableLog, Protocol):
    """An append-only log."""

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
        """Append all facts or none, durably, together with every staged blob.

        Args:
            stream: where to append.
            facts: what happened, in order.
            expected: the stream's version before the append; None accepts any.
            causation: version of the causing event in the same stream.
            observed: measurements, put on the first event of the batch.
            key: name of this append within the stream. If the stream has events under it already, they are returned as
                recorded and nothing is appended, whatever `facts` and `expected` say: doing it twice does it once.
                Keys are no part of the hashes.

        Raises:
            Conflict: the stream is at another version.
            LogError: the store failed; nothing was appended.
        """

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
        """`append` without waiting, for coroutines: `await asyncio.wrap_future(log.submit(...))`.

        Appends keep the order in which they were submitted; those that wait at the same time share a commit.
        """

    def put(self, content: bytes) -> BlobHash:
        """Stage a blob; the next append makes it durable. Equal contents are stored once."""
