"""The log in one SQLite file (WAL, synchronous=FULL): what `append` returned from survives `kill -9` and power loss.

Guarantees:
- Appends go in transactions opened with BEGIN IMMEDIATE, so that positions grow in commit order for any number of threads
  and processes.
- Reading has a connection of its own.

Not responsible for: repairing a file (`events.maintenance`). The driver is used directly: an object mapper costs 13 times
the CPU on reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from events.facts.consumers import immediate_transaction
from events.facts.errors import BadInput
from events.facts.log import Corruption, Subscription
from events.facts.upcast import UPCASTERS, Upcaster
from events.stores.commit_queue import AppendOutcome, plan_all
from events.stores.rows import EMPTY_STREAM, StreamEnd, utc_now
from events.stores.sql_base import ROWS_OF_KEY, SqlLog
from events.stores.sqlite_errors import translate_errors
from events.stores.sqlite_file import KEYS_SINCE, add_keys, check_schema
from events.stores.sqlite_reader import SqliteReader
from events.stores.sqlite_subscription import SqliteSubscription
from events.stores.tally import TALLY_SINCE, Tally
from events.stores.transaction import AppendRequest, TransactionPlan

_STREAM_END = "SELECT version, hash FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1"


class SqliteLog(SqlLog):
    """A `Log` in a file."""

    _size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    # A trigger aborts the insertion of a key that is there, so that ON CONFLICT would come too late.
    _insert_missing_key = """
        INSERT INTO keys (stream, key, version, size) SELECT ?1, ?2, ?3, ?4
        WHERE NOT EXISTS (SELECT 1 FROM keys WHERE stream = ?1 AND key = ?2)"""

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

        With `damaged`, what can be read of a damaged file is read, and nothing is written. With `read_only`, SQLite refuses
        every write, so that appending fails.

        Raises:
            BadInput: there is no log of this version at `path`.
            LogError: it cannot be opened.
        """
        super().__init__(clock=clock, upcasters=upcasters)
        self.path = path
        self.name = str(path)
        if not path.is_file():
            raise BadInput(f"There is no log at {path}; give the directory or the log.sqlite of a run.")
        self._reader = SqliteReader(path, damaged=damaged, read_only=read_only)
        try:
            schema = self._reader.ask(lambda db: check_schema(db, path))
            self._keyed, self.tallied = schema >= KEYS_SINCE, schema >= TALLY_SINCE
            with translate_errors(path):
                self._writer = self._reader.new_connection()
        except BaseException:
            self._reader.close()
            raise

    def _commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        with self._transaction() as db:
            # From here on no other process can move the tip behind which the plan writes.
            tip, tally = self._tip(db.execute(self._tip_query).fetchone())
            plan = TransactionPlan(tip, self._clock, self._upcasters, tally=Tally.parse(tally))
            for request in requests:
                if request.stream not in plan.ends:
                    row = db.execute(_STREAM_END, (request.stream,)).fetchone()
                    plan.ends[request.stream] = StreamEnd(*row) if row else EMPTY_STREAM
                if request.key is not None and self._has_keys():
                    plan.recorded |= self._by_key(db.execute(ROWS_OF_KEY, (request.stream, request.key)).fetchall())
            outcomes = plan_all(plan, requests)
            blobs = self._staging.waiting()
            self._write(db, plan, blobs)
        # Only after the commit: until then a reader finds them in the staging, and after a failure the next append writes them.
        self._staging.forget(blobs)
        return outcomes

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with translate_errors(self.path), immediate_transaction(self._writer):
            yield self._writer

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._reader.fetch(query, values)

    def _has_keys(self) -> bool:
        # Another process may bring the file to schema 2 at any time.
        self._keyed = self._keyed or self._fetch("PRAGMA user_version")[0][0] >= KEYS_SINCE
        return self._keyed

    def _make_keys(self, db: sqlite3.Connection) -> None:
        add_keys(db)

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return SqliteSubscription(self.path, self._reader)

    def _damage(self) -> Corruption | None:
        """The same, and what SQLite finds wrong with the file."""
        integrity = self._fetch("PRAGMA integrity_check(1)")[0][0]
        damage = super()._damage()
        if damage is None and integrity != "ok":
            return Corruption(self.head().position, f"SQLite finds the file damaged: {integrity}")
        return damage

    def _triggers(self) -> tuple[dict[str, str], dict[str, str]]:
        from events.stores.schema import sqlite_triggers

        existing = dict(self._fetch("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        return sqlite_triggers(keyed=self._has_keys()), existing

    def close(self) -> None:
        """See `events.facts.log.Log.close`."""
        self._queue.flush()
        with translate_errors(self.path):
            self._staging.clear()
            self._reader.close()
            self._writer.close()
