"""What the stores in SQL databases share; a subclass brings its database's connections, transactions and dialect.

Guarantees:
- Appends of one process that wait at the same time share a transaction (`commit_queue`).
- Readers go in pages and hold no transaction between them, so that readers and writers never wait for one another.
- `verify` recomputes chain, blobs, keys and tally.

Shared SQL marks parameters with `?`; a driver that wants another marker replaces it in `_sql`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, ClassVar

from events.facts.errors import Conflict, LogError
from events.facts.log import AnomalyCallback, Corruption, Event, Head, ProgressCallback, ignore_anomaly, ignore_progress
from events.facts.upcast import UPCASTERS, Upcaster
from events.facts.values import BlobHash
from events.stores.anomalies import missing_triggers, unreferenced_blobs
from events.stores.commit_queue import AppendOutcome, CommitQueue
from events.stores.log_stats import BlobStats, LogStats
from events.stores.paging import COLUMNS, PAGE_SIZE, read_pages
from events.stores.raw import RawLog
from events.stores.rows import Row, find_corruption, open_row, utc_now, with_progress
from events.stores.staging import PackedBlob, Staging, unpack_blob
from events.stores.tally import Tally
from events.stores.transaction import AppendRequest, Appends, Key, TransactionPlan

INSERT_ROW = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # constants only
# A key without events comes as one row of NULLs: an empty append has a key, too.
KEYED_ROWS = f"""
SELECT keys.stream, keys.key, {", ".join(f"events.{column}" for column in Row._fields)}
FROM {{}} LEFT JOIN events ON events.stream = keys.stream
AND events.version >= keys.version AND events.version < keys.version + keys.size
{{}} ORDER BY events.version"""  # noqa: S608  # constants only
ROWS_OF_KEY = KEYED_ROWS.format("keys", "WHERE keys.stream = ? AND keys.key = ?")
_INSERT_KEY = "INSERT INTO keys (stream, key, version, size) VALUES (?, ?, ?, ?)"
_DANGLING_KEY = """
SELECT stream, key FROM keys WHERE version < 1 OR size < 0
OR version + size - 1 > coalesce((SELECT max(version) FROM events WHERE events.stream = keys.stream), 0) LIMIT 1"""


class SqlLog(Appends):
    """A `Log` in a SQL database. Safe to share between threads; every process opens its own."""

    name: str
    """How messages call the log."""
    tallied: bool
    """Whether its schema keeps a tally in the tip."""
    _size: ClassVar[str]
    """Query: the bytes that the log takes."""
    _insert_blob: ClassVar[str] = "INSERT INTO blobs (hash, size, content) VALUES (?, ?, ?)"
    _insert_missing_key: ClassVar[str]
    """Inserts a key unless it is there."""
    _lock_tip: ClassVar[str] = ""
    """Ends the query for the tip in a transaction that is going to move it."""
    _announce: ClassVar[str] = ""
    """Ends the statement that moves the tip: tells subscribers."""
    _announced_to: tuple[str, ...] = ()
    """Parameters of `_announce`."""

    def __init__(
        self, *, clock: Callable[[], datetime] = utc_now, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS
    ) -> None:
        """Connect to nothing yet; `clock` gives the time of appends."""
        self._clock = clock
        self._upcasters = upcasters
        self._staging = Staging()
        self._queue = CommitQueue(self._commit)

    def _append(self, request: AppendRequest) -> list[Event]:
        return self._queue.append(request)

    def _submit(self, request: AppendRequest) -> Future[list[Event]]:
        return self._queue.submit(request)

    @abstractmethod
    def _commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        """Append all that can be appended in one transaction."""

    @abstractmethod
    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query on the reading connection."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Any]:
        """A transaction on the writing connection, which it gives."""

    @abstractmethod
    def _triggers(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Triggers that the log should have and those it has, text by name."""

    def _sql(self, query: str) -> str:
        """Shared SQL in the driver's dialect."""
        return query

    def _has_keys(self) -> bool:
        """Whether the log's schema has keys."""
        return True

    def _insert_rows(self, cursor: Any, rows: Sequence[Row]) -> None:
        cursor.executemany(self._sql(INSERT_ROW), rows)

    def _make_keys(self, db: Any) -> None:
        """Bring the log to a schema with keys, inside the transaction that is open."""

    def _write(self, db: Any, plan: TransactionPlan, blobs: Sequence[PackedBlob]) -> None:
        cursor = db.cursor()
        if blobs:
            cursor.executemany(self._sql(self._insert_blob), blobs)
        if plan.rows:
            self._insert_rows(cursor, plan.rows)
            tally = [] if plan.tally is None else [plan.tally.add(plan.rows).text()]
            move = f"UPDATE tip SET position = ?, head = ?{', tally = ?' if tally else ''} WHERE id = 1{self._announce}"  # noqa: S608
            cursor.execute(self._sql(move), (*plan.tip, *tally, *self._announced_to))
        if plan.keys:
            self._make_keys(db)
            cursor.executemany(self._sql(_INSERT_KEY), plan.keys)

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.facts.log.Log.read`. Ends where the log ended when reading began."""
        until = self.head().position
        for row in read_pages(self._fetch, stream, after=after, until=until, kinds=kinds, limit=limit):
            yield open_row(row, self._upcasters)

    def event(self, stream: str, version: int) -> Event | None:
        """See `events.facts.log.Log.event`."""
        rows = self._fetch(f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version = ?", (stream, version))  # noqa: S608
        return open_row(Row._make(rows[0]), self._upcasters) if rows else None

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`."""
        if not self._has_keys():
            return None
        return self._by_key(self._fetch(ROWS_OF_KEY, (stream, key))).get((stream, key))

    def _by_key(self, rows: Sequence[Any]) -> dict[tuple[str, str], list[Event]]:
        """Events by stream and key, from rows of `KEYED_ROWS`."""
        recorded: dict[tuple[str, str], list[Event]] = {}
        for stream, key, *row in rows:
            events = recorded.setdefault((stream, key), [])
            if row[0] is not None:
                events.append(open_row(Row._make(row), self._upcasters))
        return recorded

    def version(self, stream: str) -> int:
        """See `events.facts.log.Log.version`."""
        rows = self._fetch("SELECT version FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1", (stream,))
        return int(rows[0][0]) if rows else 0

    def head(self) -> Head:
        """See `events.facts.log.Log.head`."""
        return self._end()[0]

    def _end(self) -> tuple[Head, str | None]:
        return self._tip(next(iter(self._fetch(self._tip_query)), None))

    @property
    def _tip_query(self) -> str:
        return f"SELECT position, head, {'tally' if self.tallied else 'NULL'} FROM tip"  # noqa: S608  # constants only

    def _tip(self, row: tuple[Any, ...] | None) -> tuple[Head, str | None]:
        """Where the log ends, and its tally as stored."""
        if row is None:
            raise LogError(f"The log {self.name} has lost its tip; it was changed from outside, restore a backup.")
        position, head, tally = row
        return Head(position, head), tally

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """See `events.facts.log.Log.verify`."""
        tip, stored = self._end()
        # The end was read first: what others append meanwhile lies behind it, and is not judged.
        tally, blobs = Tally(), set[bytes]()
        rows = with_progress(tally.along(self.raw().rows(until=tip.position)), tip.position, on_progress)
        corruption = find_corruption(rows, tip, self._stored, self._upcasters, blobs)
        corruption = corruption or self._damage() or tally.broken(tip, stored)
        if corruption is None:
            for anomaly in self._anomalies(len(blobs)):
                on_anomaly(anomaly)
        return corruption

    def _damage(self) -> Corruption | None:
        """What is wrong though the chain up to the tip is right."""
        last, tip = self._fetch("SELECT (SELECT max(position) FROM events), position FROM tip")[0]
        if (last or 0) > tip:
            return Corruption(tip + 1, "the log ends before this event; it was added from outside")
        if self._has_keys() and (dangling := self._fetch(_DANGLING_KEY)):
            stream, key = dangling[0]
            return Corruption(tip, f"key {key!r} of stream {stream!r} names events that are not there")
        return None

    def _anomalies(self, referenced: int) -> Iterator[str]:
        yield from unreferenced_blobs(self._fetch("SELECT count(*) FROM blobs")[0][0], referenced)
        yield from missing_triggers(*self._triggers())

    def put(self, content: bytes) -> BlobHash:
        """See `events.facts.log.Log.put`."""
        return self._staging.put(content)

    def get(self, blob: BlobHash) -> bytes:
        """See `events.facts.log.Log.get`."""
        staged = self._staging.get(blob)
        return self._stored(blob) if staged is None else staged

    def get_many(self, blobs: Collection[BlobHash]) -> dict[BlobHash, bytes]:
        """See `events.facts.log.Log.get_many`."""
        # In this order: a blob leaves the staging once it can be queried.
        staged = {blob: self._staging.get(blob) for blob in blobs}
        missing = [blob for blob, content in staged.items() if content is None]
        stored: dict[BlobHash, bytes] = {}
        for start in range(0, len(missing), PAGE_SIZE):
            page = missing[start : start + PAGE_SIZE]
            query = f"SELECT hash, content FROM blobs WHERE hash IN ({', '.join('?' * len(page))})"  # noqa: S608  # constants only
            stored |= dict(self._fetch(query, page))
        return {blob: unpack_blob(blob, stored.get(blob)) if content is None else content for blob, content in staged.items()}

    def _stored(self, blob: BlobHash) -> bytes:
        rows = self._fetch("SELECT content FROM blobs WHERE hash = ?", (blob,))
        return unpack_blob(blob, rows[0][0] if rows else None)

    def raw(self) -> RawLog:
        """See `events.stores.raw.Store.raw`."""
        return RawLog(self._fetch, has_keys=self._has_keys())

    def stats(self) -> LogStats:
        """See `events.stores.raw.Store.stats`."""
        tip, stored = self._end()
        tally = Tally.parse(stored) or Tally().add(self.raw().rows(until=tip.position))
        blobs = self._fetch("SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(content)), 0) FROM blobs")[0]
        return LogStats(tip, tally, BlobStats(*map(int, blobs)), int(self._fetch(self._size)[0][0]))

    def append_rows(self, tip: Head, rows: Sequence[Row], blobs: Sequence[PackedBlob]) -> None:
        """See `events.stores.raw.Store.append_rows`."""
        with self._queue.paused(), self._transaction() as db:
            end, tally = self._tip(db.execute(self._tip_query + self._lock_tip).fetchone())
            if end != tip:
                message = f"The log {self.name} ends at position {end.position}, not as expected at {tip.position}"
                raise Conflict(f"{message}; somebody else appends to it, let nobody do so and repeat.")
            plan = TransactionPlan(Head(rows[-1].position, rows[-1].head), tally=Tally.parse(tally), rows=list(rows))
            self._write(db, plan, blobs)

    def append_keys(self, keys: Sequence[Key]) -> None:
        """See `events.stores.raw.Store.append_keys`."""
        with self._queue.paused(), self._transaction() as db:
            self._make_keys(db)
            db.cursor().executemany(self._sql(self._insert_missing_key), keys)
