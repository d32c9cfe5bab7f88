"""Consumers: projections that keep rows in a database, each with a checkpoint there.

Guarantees:
- Rows and checkpoint are written in one transaction, so that every event counts exactly once, whatever crashes and however
  many processes run the same consumer.
- The checkpoint keeps the log's head, so that rows of two logs are never mixed.

The database is the consumer's choice: SQLite or PostgreSQL, beside the log or not.
Not responsible for: undoing. A consumer that was wrong gets another name, or empty tables.

    def count(db: sqlite3.Connection, event: Event) -> None:
        db.execute("INSERT INTO kinds VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET number = number + 1", (event.fact.kind,))

    consumer = Consumer(log, "kinds", sqlite3.connect("figures.sqlite"), count)
    consumer.follow()
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from events.facts.errors import LogCorrupt
from events.facts.follow import POLL_INTERVAL_S
from events.facts.hashing import ZERO_HASH
from events.facts.log import Event, Head, ProgressCallback, ReadableLog, ignore_progress

if TYPE_CHECKING:
    import psycopg

BATCH_SIZE = 500
"""Most events that share a transaction."""

TABLE_LOCK = 0x47415351
"""Advisory lock held in PostgreSQL while the checkpoint's table is made."""

Database = TypeVar("Database", bound="sqlite3.Connection | psycopg.Connection")

_TABLE = "CREATE TABLE IF NOT EXISTS checkpoint (consumer text PRIMARY KEY, position bigint NOT NULL, head text NOT NULL)"


@contextmanager
def immediate_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction that locks the file at once; it is rolled back if the block raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk makes SQLite roll back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _noting(heads: list[Head], events: Iterable[Event]) -> Iterator[Event]:
    """The events; where each of them is in the log is noted when it passes."""
    for event in events:
        heads.append(Head(event.position, event.head))
        yield event


def _one_by_one(write: Callable[[Database, Event], None]) -> Callable[[Database, Iterator[Event]], None]:
    def write_batch(db: Database, events: Iterator[Event]) -> None:
        for event in events:
            write(db, event)

    return write_batch


class Consumer(Generic[Database]):
    """Applies each event of a log once to rows in a database."""

    def __init__(
        self,
        log: ReadableLog,
        name: str,
        db: Database,
        write: Callable[[Database, Event], None] | None = None,
        *,
        write_batch: Callable[[Database, Iterator[Event]], None] | None = None,
        kinds: Collection[str] | None = None,
        behind: str = "",
    ) -> None:
        """Make the checkpoint's table in `db`, unless it is there.

        Nobody else may use this connection meanwhile.

        Args:
            log: what is consumed.
            name: whose checkpoint it is.
            db: holds the rows and the checkpoint.
            write: writes the rows of one event, and must not commit.
            write_batch: in its place, writes the rows of all events that share a transaction, of which it must leave none.
            kinds: kinds of facts that are consumed; None for all.
            behind: a consumer of the same database whose rows `write` reads; this one never overtakes it.
        """
        self.name = name
        self._log = log
        self._db = db
        if write_batch is None:
            if write is None:
                raise TypeError("a consumer needs write or write_batch")
            write_batch = _one_by_one(write)
        self._write_batch = write_batch
        self._kinds = kinds
        self._behind = behind
        with self._transaction():
            if not isinstance(db, sqlite3.Connection):
                # Two that make the same table at once would both fail.
                self._run("SELECT pg_advisory_xact_lock(?)", TABLE_LOCK)
            self._run(_TABLE)
            self._run(f"INSERT INTO checkpoint VALUES (?, 0, '{ZERO_HASH}') ON CONFLICT DO NOTHING", name)  # noqa: S608  # a constant

    def _run(self, query: str, *values: object) -> sqlite3.Cursor | psycopg.Cursor:
        if isinstance(self._db, sqlite3.Connection):
            return self._db.execute(query, values)
        return self._db.execute(query.replace("?", "%s").encode(), values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with immediate_transaction(self._db) if isinstance(self._db, sqlite3.Connection) else self._db.transaction():
            yield

    @property
    def position(self) -> int:
        """Last position consumed."""
        return self.checkpoint.position

    @property
    def checkpoint(self) -> Head:
        """Last position consumed, with the head that the log had there."""
        return self._checkpoint(self.name)

    def _checkpoint(self, name: str, lock: str = "") -> Head:
        query = f"SELECT position, head FROM checkpoint WHERE consumer = ?{lock}"  # noqa: S608  # constants only
        position, head = self._run(query, name).fetchone() or (0, ZERO_HASH)
        return Head(position, head)

    def catch_up(self, stop: Callable[[], bool] = lambda: False, on_progress: ProgressCallback = ignore_progress) -> int:
        """Consume what there is, or until `stop()` is true; returns how many events that was.

        Both functions are called between transactions; `on_progress` with the position consumed and the log's last position.

        Raises:
            LogCorrupt: the log is not the one that was consumed so far.
        """
        total = 0
        while not stop() and (count := self._consume_batch()) > 0:
            total += count
            on_progress(self.position, self._log.head().position)
        return total

    def _consume_batch(self) -> int:
        with self._transaction():
            at = self._checkpoint(self.name, "" if isinstance(self._db, sqlite3.Connection) else " FOR UPDATE")
            last = self._checkpoint(self._behind).position if self._behind else inf
            # From the last consumed event on, to check that it is still the log that was consumed.
            events = self._log.read(after=max(at.position - 1, 0), kinds=self._kinds, limit=BATCH_SIZE + bool(at.position))
            if at.position:
                self._check(at, next(events, None))
            consumed: list[Head] = []
            self._write_batch(self._db, _noting(consumed, takewhile(lambda event: event.position <= last, events)))
            if consumed:
                query = "UPDATE checkpoint SET position = ?, head = ? WHERE consumer = ?"
                self._run(query, *consumed[-1], self.name)
        return len(consumed)

    def _check(self, at: Head, event: Event | None) -> None:
        if event is None or Head(event.position, event.head) != at:
            message = f"The rows of consumer {self.name!r} come from another log, or from a tail that was cut off"
            raise LogCorrupt(f"{message}; verify the log, then empty the consumer's tables and its checkpoint.")

    def follow(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Consume what there is and what comes, until `stop()` is true; what was appended before that is consumed."""
        with closing(self._log.subscribe()) as subscription:
            while True:
                last = stop()
                self.catch_up()
                if last:
                    return
                subscription.wait(POLL_INTERVAL_S)
