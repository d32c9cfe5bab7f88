"""The log in one SQLite file (WAL, synchronous=FULL): what `append` returned from survives `kill -9` and power loss.

Law: appends go in transactions opened with BEGIN IMMEDIATE, so that positions grow in commit order for any number of
threads and processes; appends of one process that wait at the same time share a transaction. Reading has a connection of
its own, goes in pages and holds no transaction between them, so readers and writers never wait for one another. The driver
is used directly: an object mapper costs 13 times the CPU on reads. It does not repair a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from events.facts.errors import BadInput, LogError
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
from events.facts.upcast import UPCASTERS, Upcaster
from events.facts.values import BlobHash
from events.stores.anomalies import missing_triggers, unreferenced_blobs
from events.stores.commit_queue import AppendOutcome, CommitQueue, QueuedAppends, plan_all
from events.stores.log_stats import LogStats, log_stats
from events.stores.paging import COLUMNS, read_pages
from events.stores.raw import RawLog
from events.stores.rows import EMPTY_STREAM, Row, StreamEnd, check_tip, find_corruption, open_row, utc_now, with_progress
from events.stores.sqlite_errors import translate_errors
from events.stores.sqlite_file import KEYS_SINCE, add_keys, check_schema, schema_of
from events.stores.sqlite_reader import SqliteReader, file_state
from events.stores.sqlite_subscription import SqliteSubscription
from events.stores.staging import PackedBlob, Staging, unpack_blob
from events.stores.tally import TALLY_SINCE, Tally
from events.stores.transaction import AppendRequest, Key, TransactionPlan

_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # constants only
_MOVE_TIP = "UPDATE tip SET position = ?, head = ?{} WHERE id = 1"
_INSERT_BLOB = "INSERT INTO blobs (hash, size, content) VALUES (?, ?, ?)"
_INSERT_KEY = "INSERT INTO keys (stream, key, version, size) VALUES (?, ?, ?, ?)"
_TAKE_KEY = """
INSERT INTO keys (stream, key, version, size) SELECT ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM keys WHERE stream = ? AND key = ?)"""
_KEY = "SELECT version, size FROM keys WHERE stream = ? AND key = ?"
_UNDER_KEY = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version >= ? ORDER BY version LIMIT ?"  # noqa: S608
_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_LOST_KEY = """
SELECT stream, key FROM keys WHERE version < 1 OR size < 0
OR version + size - 1 > coalesce((SELECT max(version) FROM events WHERE events.stream = keys.stream), 0) LIMIT 1"""


class SqliteLog(QueuedAppends):
    """A `Log` in a file. Safe to share between threads; every process opens its own."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
        damaged: bool = False,
        read_only: bool = False,
    ) -> None:
        """Open an existing log; `events.stores.open_log` also makes one.

        Args:
            path: the file.
            clock: says when events are appended.
            upcasters: bring old facts to the shape of today.
            damaged: read what can be read of a damaged file, and write nothing.
            read_only: let SQLite refuse every write, so that appending fails.

        Raises:
            BadInput: there is no log of this version at `path`.
            LogError: it cannot be opened.
        """
        self.path = path
        self._clock = clock
        self._upcasters = upcasters
        self._staging = Staging()
        self._group = CommitQueue(self._commit)
        if not path.is_file():
            raise BadInput(f"there is no log at {path}; give the directory or the log.sqlite of a run")
        self._reader = SqliteReader(path, damaged=damaged, read_only=read_only)
        try:
            schema = self._reader.ask(lambda db: check_schema(db, path))
            self._keyed, self._tallied = schema >= KEYS_SINCE, schema >= TALLY_SINCE
            with translate_errors(path):
                self._writer, self._unchanging = self._reader.another(), self._reader.immutable
                self._seen = self._version_seen()
        except BaseException:
            self._reader.close()
            raise

    def _commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        with self._transaction() as db:
            tip, tally = self._tip(db)
            plan = TransactionPlan(tip, self._clock, self._upcasters, tally=Tally.parse(tally))
            for request in requests:
                if request.stream not in plan.ends:
                    plan.ends[request.stream] = _end(db, request.stream)
                if request.key is not None and (rows := self._recall(db, request.stream, request.key)) is not None:
                    plan.recorded[request.stream, request.key] = rows
            outcomes = plan_all(plan, requests)
            blobs = self._staging.waiting()
            self._write(db, plan, blobs)
        self._staging.forget(blobs)
        return outcomes

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._writer
        with translate_errors(self.path):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _write(self, db: sqlite3.Connection, plan: TransactionPlan, blobs: Sequence[PackedBlob]) -> None:
        if blobs:
            db.executemany(_INSERT_BLOB, blobs)
        if plan.rows:
            db.executemany(_INSERT, plan.rows)
            tally = [] if plan.tally is None else [plan.tally.add(plan.rows).text()]
            db.execute(_MOVE_TIP.format(", tally = ?" if tally else ""), (*plan.tip, *tally))
        if plan.keys:
            add_keys(db)
            db.executemany(_INSERT_KEY, plan.keys)

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.facts.log.Log.read`. Ends where the log ended when reading began."""
        until = self.head().position
        for row in read_pages(self._fetch, stream, mark="?", after=after, until=until, kinds=kinds, limit=limit):
            yield open_row(row, self._upcasters)

    def _fetch(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._reader.fetch(query, values)

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`."""
        return self._reader.ask(lambda db: self._recall(db, stream, key))

    def _recall(self, db: sqlite3.Connection, stream: str, key: str) -> list[Event] | None:
        # Another process may bring the file to the schema of today at any time.
        self._keyed = self._keyed or schema_of(db) >= KEYS_SINCE
        found = db.execute(_KEY, (stream, key)).fetchone() if self._keyed else None
        if found is None:
            return None
        rows = db.execute(_UNDER_KEY, (stream, *found)).fetchall()
        return [open_row(Row._make(row), self._upcasters) for row in rows]

    def version(self, stream: str) -> int:
        """See `events.facts.log.Log.version`."""
        return self._reader.ask(lambda db: _end(db, stream).version)

    def head(self) -> Head:
        """See `events.facts.log.Log.head`."""
        return self._end()[0]

    def _end(self) -> tuple[Head, str | None]:
        return self._reader.ask(self._tip)

    def _tip(self, db: sqlite3.Connection) -> tuple[Head, str | None]:
        """Where the log ends, and its tally as stored."""
        found = db.execute(f"SELECT position, head, {'tally' if self._tallied else 'NULL'} FROM tip").fetchone()  # noqa: S608
        if found is None:
            raise LogError(f"the log {self.path} has lost its tip; it was changed from outside, restore a backup")
        position, head, tally = found
        return Head(position, head), tally

    def changed(self) -> bool:
        """See `events.facts.log.Log.changed`."""
        with self._reader.lock, translate_errors(self.path):
            before, self._seen = self._seen, self._version_seen()
            return self._seen != before

    def _version_seen(self) -> object:
        if self._unchanging:
            return file_state(self.path)
        # The writer's, so that only what others append counts.
        return int(self._writer.execute("PRAGMA data_version").fetchone()[0])

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return SqliteSubscription(self.path, self._reader)

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """See `events.facts.log.Log.verify`. Also asks SQLite for the file's own integrity."""
        tip, tally = self._end()
        counted = Tally()
        rows = with_progress(counted.along(self.raw().rows(until=tip.position)), tip.position, on_progress)
        named: set[bytes] = set()
        broken = find_corruption(rows, tip, self._stored, self._upcasters, named)
        broken = broken or self._damaged() or counted.broken(tip, tally)
        for text in self._remarks(len(named)) if broken is None else ():
            on_anomaly(text)
        return broken

    def _damaged(self) -> Corruption | None:
        last, end = self._fetch("SELECT max(events.position), tip.position FROM events, tip", ())[0]
        keyed = self._fetch("PRAGMA user_version", ())[0][0] >= KEYS_SINCE
        lost = self._fetch(_LOST_KEY, ()) if keyed else []
        found = self._fetch("PRAGMA integrity_check(1)", ())[0][0]
        if (last or 0) > (end or 0):
            return Corruption(end + 1, "the log ends before this event; it was added from outside")
        if lost:
            return Corruption(end, f"key {lost[0][1]!r} of stream {lost[0][0]!r} names events that are not there")
        if found != "ok":
            return Corruption(end, f"SQLite finds the file damaged: {found}")
        return None

    def _remarks(self, named: int) -> Iterator[str]:
        from events.stores.schema import sqlite_triggers

        yield from unreferenced_blobs(self._fetch("SELECT count(*) FROM blobs", ())[0][0], named)
        found = dict(self._fetch("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'", ()))
        keyed = self._fetch("PRAGMA user_version", ())[0][0] >= KEYS_SINCE
        yield from missing_triggers(sqlite_triggers(keyed=keyed), found)

    def put(self, content: bytes) -> BlobHash:
        """See `events.facts.log.Log.put`."""
        return self._staging.put(content)

    def get(self, blob: BlobHash) -> bytes:
        """See `events.facts.log.Log.get`."""
        staged = self._staging.get(blob)
        return self._stored(blob) if staged is None else staged

    def _stored(self, blob: BlobHash) -> bytes:
        found = self._fetch("SELECT content FROM blobs WHERE hash = ?", (blob,))
        return unpack_blob(blob, found[0][0] if found else None)

    def raw(self) -> RawLog:
        """See `events.stores.raw.Store.raw`."""
        keyed = self._fetch("PRAGMA user_version", ())[0][0] >= KEYS_SINCE
        return RawLog(self._fetch, mark="?", keyed=keyed)

    def stats(self) -> LogStats:
        """See `events.stores.raw.Store.stats`."""
        tip, tally = self._end()
        return log_stats(tip, tally, self.raw().rows(until=tip.position), self._fetch, _SIZE)

    def append_rows(self, tip: Head, rows: Sequence[Row], blobs: Sequence[PackedBlob]) -> None:
        """See `events.stores.raw.Store.append_rows`."""
        with self._group.paused(), self._transaction() as db:
            found, tally = self._tip(db)
            check_tip(str(self.path), found, tip)
            plan = TransactionPlan(Head(rows[-1].position, rows[-1].head), tally=Tally.parse(tally), rows=list(rows))
            self._write(db, plan, blobs)

    def append_keys(self, keys: Sequence[Key]) -> None:
        """See `events.stores.raw.Store.append_keys`."""
        with self._group.paused(), self._transaction() as db:
            add_keys(db)
            db.executemany(_TAKE_KEY, [(*key, key.stream, key.key) for key in keys])

    def close(self) -> None:
        """See `events.facts.log.Log.close`."""
        self._group.flush()
        with translate_errors(self.path):
            self._staging.clear()
            self._reader.close()
            self._writer.close()


def _end(db: sqlite3.Connection, stream: str) -> StreamEnd:
    query = "SELECT version, hash FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1"
    found = db.execute(query, (stream,)).fetchone()
    return StreamEnd(*found) if found else EMPTY_STREAM
