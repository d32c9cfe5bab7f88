"""The stored form of an event, shared by every store: hash facts into rows, validate rows into events, find corruption.

Guarantees: a store keeps exactly `Row`s; all hashing, upcasting and validating happens here. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from events.facts.errors import LogCorrupt, LogError
from events.facts.fact import Fact
from events.facts.hashing import ZERO_HASH, blob_hash, data_of, hash_event, kind_of, next_head
from events.facts.log import Corruption, Event, Head, ProgressCallback
from events.facts.upcast import FACT_TYPES, UPCASTERS, Upcaster, upcast
from events.facts.values import BlobHash, Generation


class Row(NamedTuple):
    """One event as stored; the order of the fields is the order of the table's columns."""

    position: int
    stream: str
    version: int
    kind: str
    schema_version: int
    data: str
    causation: int | None
    prev_hash: str
    hash: str
    head: str
    time: str
    observed: str


class StreamEnd(NamedTuple):
    """The last version of a stream, and its hash."""

    version: int
    hash: str


PROGRESS_EVERY = 500
"""Events between two reports of progress."""
EMPTY_STREAM = StreamEnd(0, ZERO_HASH)
"""The end of a stream without events."""


def utc_now() -> datetime:
    """Now, by the wall clock."""
    return datetime.now(UTC)


def seal(
    facts: Sequence[Fact],
    stream: str,
    end: StreamEnd,
    *,
    tip: Head,
    time: datetime,
    causation: int | None,
    observed: Mapping[str, Any] | None,
) -> list[Row]:
    """The rows of `facts` in a stream that ends in `end`, in a log that ends in `tip`."""
    rows: list[Row] = []
    version, prev_hash = end
    position, head = tip
    measures = json.dumps(dict(observed), sort_keys=True, separators=(",", ":")) if observed else "{}"
    stamp = time.isoformat()
    for fact in facts:
        position, version = position + 1, version + 1
        kind, schema, data = kind_of(fact), type(fact).SCHEMA, data_of(fact)
        own = hash_event(prev_hash, stream, version, kind, schema, data, causation)
        head = next_head(head, own)
        rows.append(Row(position, stream, version, kind, schema, data, causation, prev_hash, own, head, stamp, measures))
        # What was observed belongs to the whole append, and is kept with its first event.
        prev_hash, measures = own, "{}"
    return rows


def open_row(row: Row, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS) -> Event:
    """The event in a row.

    Raises:
        LogError: a newer version of the program wrote it.
        LogCorrupt: its data does not fit its kind.
    """
    position, stream, version, kind, schema, data, causation, prev_hash, own, head, time, observed = row
    if kind not in FACT_TYPES:
        raise LogError(f"Position {position} has the unknown kind {kind!r}; read the log with a newer version.")
    today, validate = _reader(kind)
    try:
        if schema == today:
            fact = validate(data)
        else:
            fact = FACT_TYPES[kind].model_validate(upcast(kind, schema, json.loads(data), today, upcasters))
        measures = json.loads(observed) if observed != "{}" else {}
        return _EVENT((position, stream, version, fact, causation, prev_hash, own, head, _TIME(time), measures))
    except ValueError as error:
        problem = f"{error.error_count()} wrong fields" if isinstance(error, ValidationError) else str(error)
        raise LogCorrupt(f"Position {position} ({kind}) cannot be read: {problem}; run verify.") from error


_EVENT, _TIME = Event._make, datetime.fromisoformat


@cache
def _reader(kind: str) -> tuple[int, Callable[[str], Any]]:
    """Schema of a kind, and its validator, built by now; looking these up on the class for each event is slow."""
    cls = FACT_TYPES[kind]
    cls.model_rebuild()
    return cls.SCHEMA, cls.__pydantic_validator__.validate_json


@cache
def _blob_fields(cls: type[BaseModel]) -> tuple[str, ...]:
    fields = cls.model_fields.items()
    return tuple(name for name, field in fields if BlobHash in (field.annotation, *get_args(field.annotation)))


def blobs_of(fact: Fact | Generation) -> Iterator[BlobHash]:
    """Every blob that a fact names, also in its generation."""
    values: dict[str, Any] = fact.__dict__
    for name in _blob_fields(type(fact)):
        value = values[name]
        if isinstance(value, tuple):
            yield from value
        elif value is not None:
            yield value
    generation = values.get("generation")
    if isinstance(generation, Generation):
        yield from blobs_of(generation)


def find_corruption(
    rows: Iterable[Row],
    tip: Head,
    get: Callable[[BlobHash], bytes],
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    named: set[bytes] | None = None,
) -> Corruption | None:
    """Recompute all hashes, heads and blobs of all rows up to the stored `tip`; None if all is well.

    `get` returns a blob, or raises `LogCorrupt` for a missing or changed one. `named` receives the hash of every blob that an
    event names.
    """
    chain = HashChain()
    seen: set[bytes] = set() if named is None else named
    try:
        for row in rows:
            problem = chain.problem(row)
            if problem is not None:
                return Corruption(chain.tip.position + 1, problem)
            for blob in blobs_of(open_row(row, upcasters).fact):
                if bytes.fromhex(blob) not in seen:
                    get(blob)
                    seen.add(bytes.fromhex(blob))
            chain.add(row)
    except (LogError, ValueError, TypeError) as error:
        # Without the advice in the message, which the caller gives.
        return Corruption(chain.tip.position + 1, str(error).partition("; ")[0])
    if chain.tip != tip:
        problem = f"the log promises {tip.position} events with another head; the tail was cut off or changed"
        return Corruption(chain.tip.position + 1, problem)
    return None


def with_progress(rows: Iterable[Row], total: int, on_progress: ProgressCallback) -> Iterator[Row]:
    """The rows, with progress reported as they pass."""
    for row in rows:
        if row.position % PROGRESS_EVERY == 0 or row.position == total:
            on_progress(row.position, total)
        yield row


class HashChain:
    """A chain of hashes that rows are added to, one after the other."""

    def __init__(self) -> None:
        self.tip = Head(0, ZERO_HASH)
        """The end of the chain."""
        self.ends: dict[str, StreamEnd] = {}
        """The end of every stream."""

    def problem(self, row: Row) -> str | None:
        """Why this row cannot be the next; None if it can."""
        end = self.ends.get(row.stream, EMPTY_STREAM)
        if row.position != self.tip.position + 1:
            return f"the event is missing; the next one is at {row.position}"
        if row.version != end.version + 1:
            return f"stream {row.stream!r} goes from version {end.version} to {row.version}"
        if row.prev_hash != end.hash:
            return f"it does not follow on from version {end.version} of stream {row.stream!r}"
        own = hash_event(row.prev_hash, row.stream, row.version, row.kind, row.schema_version, row.data, row.causation)
        if own != row.hash:
            return "its content does not match its hash"
        if next_head(self.tip.digest, own) != row.head:
            return "its head does not follow on from the one before"
        return None

    def add(self, row: Row) -> None:
        """Add the row."""
        self.tip = Head(row.position, row.head)
        self.ends[row.stream] = StreamEnd(row.version, row.hash)


def checked_blob(blob: BlobHash, content: bytes | None) -> bytes:
    """The content, checked against its hash.

    Raises:
        LogCorrupt: it is missing or does not match.
    """
    if content is None:
        raise LogCorrupt(f"Blob {blob} is missing; the log is incomplete, run verify and restore a backup.")
    if blob_hash(content) != blob:
        raise LogCorrupt(f"Blob {blob} does not match its hash; the log was changed, run verify and restore a backup.")
    return content
