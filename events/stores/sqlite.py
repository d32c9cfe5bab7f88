"""The log in one SQLite file (WAL, synchronous=FULL): what `append` returned from survives `kill -9` and power loss.

Law: one transaction an append, opened with BEGIN IMMEDIATE, so that positions grow in commit order for any number of
threads and processes. Reading goes in chunks and holds no transaction between them. The driver is used directly: an
object mapper costs 13 times the CPU on reads. It does not repair or migrate a file.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from events.errors import BadInput, LogError
from events.hashing import digest
from events.log import Broken, Event, Head
from events.stores.rows import EMPTY, End, Row, check_expected, checked, first_broken, open_row, seal, utc_now
from events.stores.sqlite_errors import translated
from events.types import Fact
from events.upcast import UPCASTERS, Upcaster
from events.values import BlobHash

SCHEMA_VERSION = 1
"""Shape of the tables, kept in `PRAGMA user_version`."""
APPLICATION_ID = 0x47415350
"""`GASP` in ASCII, kept in `PRAGMA application_id`: marks the file as a log of ours."""
CHUNK = 500
"""Events fetched at once."""
PATIENCE_S = 30.0
"""How long an append waits for another writer."""

_COLUMNS = ", ".join(Row._fields)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # constants only


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
                check_mark(self._db, path)
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
    ) -> list[Event]:
        """See `events.log.Log.append`."""
        with self._transaction():
            end = self._end(stream)
            check_expected(stream, end, expected)
            tip = self.head()
            rows = seal(facts, stream=stream, end=end, tip=tip, time=self._clock(), causation=causation, observed=observed)
            events = [open_row(row, self._upcasters) for row in rows]
            blobs = [(blob, size, content) for blob, (size, content) in self._staged.items()]
            self._db.executemany("INSERT INTO blobs (hash, size, content) VALUES (?, ?, ?)", blobs)
            self._db.executemany(_INSERT, rows)
            if rows:
                self._db.execute("UPDATE tip SET position = ?, head = ? WHERE id = 1", (rows[-1].position, rows[-1].head))
        return events

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
            with self._lock, translated(self.path):
                last = self._db.execute("SELECT max(events.position), tip.position FROM events, tip").fetchone()
                found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if (last[0] or 0) > (last[1] or 0):
                broken = Broken(last[1] + 1, "the log ends before this event; it was added from outside")
            elif found != "ok":
                broken = Broken(tip.position, f"SQLite finds the file damaged: {found}")
        return broken

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


def connect(path: Path) -> sqlite3.Connection:
    """A connection that may be shared between threads, durable at every commit."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA synchronous=FULL")
    return db


def check_mark(db: sqlite3.Connection, path: Path) -> None:
    """Make sure that the file is a log of this version.

    Raises:
        BadInput: it is something else.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    schema = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise BadInput(f"{path} is not a GASP log; give the directory or the log.sqlite of a run")
    if schema != SCHEMA_VERSION:
        message = (
            f"the log {path} has schema {schema}, this version reads schema {SCHEMA_VERSION}; use the version that wrote it"
        )
        raise BadInput(message)


def create(path: Path) -> None:
    """Make an empty log at `path`, unless there is one already.

    Raises:
        BadInput: the file holds something else.
        LogError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise LogError(f"the log {path} cannot be made ({error.strerror}); choose a directory that can be written") from error
    with translated(path), closing(connect(path)) as db:
        if _is_empty(db):
            from events.stores.schema import sqlite_ddl

            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            if _is_empty(db):
                for statement in sqlite_ddl():
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")


def _is_empty(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
