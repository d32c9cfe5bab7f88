"""The log in one SQLite file (WAL, synchronous=FULL): what `append` returned from survives `kill -9` and power loss.

Law: one transaction an append, opened with BEGIN IMMEDIATE, so that positions grow in commit order for any number of
threads and processes. Reading goes in chunks and holds no transaction between them. The driver is used directly: an
object mapper costs 13 times the CPU on reads. It does not repair a file.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from events.errors import BadInput, LogError
from events.hashing import digest
from events.log import Broken, Event, Head
from events.stores.plan import Key, Plan, Request
from events.stores.rows import EMPTY, End, Row, checked, first_broken, open_row, utc_now
from events.stores.sqlite_errors import translated
from events.stores.sqlite_file import check_mark, connect, schema_of, upgrade
from events.types import Fact
from events.upcast import UPCASTERS, Upcaster
from events.values import BlobHash

CHUNK = 500
"""Events fetched at once."""

KEYS_SINCE = 2
"""Schema that brought keys."""

_COLUMNS = ", ".join(Row._fields)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # constants only
_INSERT_KEY = "INSERT INTO keys (stream, key, version, size) VALUES (?, ?, ?, ?)"
_LOST_KEY = """
SELECT stream, key FROM keys WHERE version < 1 OR size < 0
OR version + size - 1 > coalesce((SELECT max(version) FROM events WHERE events.stream = keys.stream), 0) LIMIT 1"""


class SqliteLog:
    """A `Log` in a file. Safe to share between threads; every process opens its own."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime] = utc_now,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        """Open an existing log; `events.stores.open_log` also makes one.

        Raises:
            BadInput: there is no log of this version at `path`.
            LogError: it cannot be opened.
        """
        self.path = path
        self._clock = clock
        self._upcasters = upcasters
        self._lock = threading.RLock()
        self._staged: dict[BlobHash, tuple[int, bytes]] = {}
        if not path.is_file():
            raise BadInput(f"there is no log at {path}; give the directory or the log.sqlite of a run")
        with translated(path):
            self._db = connect(path)
            try:
                self._keyed = check_mark(self._db, path) >= KEYS_SINCE
                self._seen = self._data_version()
            except BaseException:
                self._db.close()
                raise

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
        """See `events.log.Log.append`."""
        request = Request(stream, facts, expected, causation, observed, key)
        with self._transaction():
            plan = Plan(self.head(), self._clock, self._upcasters)
            plan.ends[stream] = self._end(stream)
            if key is not None and (found := self.recorded(stream, key)) is not None:
                plan.recorded[stream, key] = found
            events = plan.add(request)
            self._write(plan)
        return events

    def _write(self, plan: Plan) -> None:
        blobs = [(blob, size, content) for blob, (size, content) in self._staged.items()]
        self._db.executemany("INSERT INTO blobs (hash, size, content) VALUES (?, ?, ?)", blobs)
        self._db.executemany(_INSERT, plan.rows)
        if plan.rows:
            self._db.execute("UPDATE tip SET position = ?, head = ? WHERE id = 1", plan.tip)
        if plan.keys:
            if not self._has_keys():
                upgrade(self._db)
            self._db.executemany(_INSERT_KEY, plan.keys)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._staged = {}

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.log.Log.read`. Ends where the log ended when reading began."""
        for row in self._rows(stream, after=after, until=self.head().position, kinds=kinds, limit=limit):
            yield open_row(row, self._upcasters)

    def _rows(
        self,
        stream: str | None = None,
        *,
        after: int,
        until: int,
        kinds: Collection[str] | None = None,
        limit: int | None = None,
    ) -> Iterator[Row]:
        where, fixed = "position > ? AND position <= ?", []
        if stream is not None:
            # The unary plus keeps the planner on the index of the stream.
            where, fixed = "+position > ? AND +position <= ? AND stream = ?", [stream]
        if kinds is not None:
            where, fixed = f"{where} AND kind IN ({', '.join('?' * len(kinds))})", [*fixed, *kinds]
        order = "position" if stream is None else "version"
        query = f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608  # constants only
        while limit is None or limit > 0:
            size = CHUNK if limit is None else min(CHUNK, limit)
            with self._lock, translated(self.path):
                found = self._db.execute(query, [after, until, *fixed, size]).fetchall()
            yield from map(Row._make, found)
            if len(found) < size:
                return
            after = found[-1][0]
            limit = None if limit is None else limit - size

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.log.Log.recorded`."""
        query = "SELECT stream, key, version, size FROM keys WHERE stream = ? AND key = ?"
        with self._lock, translated(self.path):
            found = self._db.execute(query, (stream, key)).fetchone() if self._has_keys() else None
            if found is None:
                return None
            _, _, first, size = Key._make(found)
            query = f"SELECT {_COLUMNS} FROM events WHERE stream = ? AND version >= ? ORDER BY version LIMIT ?"  # noqa: S608
            rows = self._db.execute(query, (stream, first, size)).fetchall()
        return [open_row(Row._make(row), self._upcasters) for row in rows]

    def _has_keys(self) -> bool:
        # Another process may bring the file to the schema of today at any time.
        if not self._keyed:
            self._keyed = schema_of(self._db) >= KEYS_SINCE
        return self._keyed

    def version(self, stream: str) -> int:
        """See `events.log.Log.version`."""
        with self._lock, translated(self.path):
            return self._end(stream).version

    def _end(self, stream: str) -> End:
        query = "SELECT version, hash FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1"
        found = self._db.execute(query, (stream,)).fetchone()
        return End(*found) if found else EMPTY

    def head(self) -> Head:
        """See `events.log.Log.head`."""
        with self._lock, translated(self.path):
            found = self._db.execute("SELECT position, head FROM tip").fetchone()
        if found is None:
            raise LogError(f"the log {self.path} has lost its tip; it was changed from outside, restore a backup")
        return Head(*found)

    def changed(self) -> bool:
        """See `events.log.Log.changed`."""
        with self._lock, translated(self.path):
            before, self._seen = self._seen, self._data_version()
            return self._seen != before

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def verify(self) -> Broken | None:
        """See `events.log.Log.verify`. Also asks SQLite for the file's own integrity."""
        tip = self.head()
        broken = first_broken(self._rows(after=0, until=tip.position), tip, self._stored, self._upcasters)
        if broken is None:
            broken = self._damaged(tip)
        return broken

    def _damaged(self, tip: Head) -> Broken | None:
        with self._lock, translated(self.path):
            last = self._db.execute("SELECT max(events.position), tip.position FROM events, tip").fetchone()
            lost = self._db.execute(_LOST_KEY).fetchone() if self._has_keys() else None
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if (last[0] or 0) > (last[1] or 0):
            return Broken(last[1] + 1, "the log ends before this event; it was added from outside")
        if lost is not None:
            return Broken(tip.position, f"key {lost[1]!r} of stream {lost[0]!r} names events that are not there")
        if found != "ok":
            return Broken(tip.position, f"SQLite finds the file damaged: {found}")
        return None

    def put(self, content: bytes) -> BlobHash:
        """See `events.log.Log.put`."""
        blob = digest(content)
        packed = len(content), zlib.compress(content)
        with self._lock:
            self._staged[blob] = packed
        return blob

    def get(self, blob: BlobHash) -> bytes:
        """See `events.log.Log.get`."""
        with self._lock:
            staged = self._staged.get(blob)
        return zlib.decompress(staged[1]) if staged else self._stored(blob)

    def _stored(self, blob: BlobHash) -> bytes:
        with self._lock, translated(self.path):
            found = self._db.execute("SELECT content FROM blobs WHERE hash = ?", (blob,)).fetchone()
        try:
            return checked(blob, zlib.decompress(found[0]) if found else None)
        except zlib.error:
            return checked(blob, b"")

    def close(self) -> None:
        """See `events.log.Log.close`."""
        with self._lock, translated(self.path):
            self._staged = {}
            self._db.close()
