"""The log in a PostgreSQL database (15 or later), for play on several machines.

Guarantees:
- An append locks the row of the tip until it has committed, so that positions grow in commit order for any number of
  processes, and a reader that asks for "after position p" misses nothing.
- A lost connection is made again; an append whose commit was lost raises `InDoubt`.

Not responsible for: setting the server up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

import psycopg

from events.facts.errors import InDoubt
from events.facts.log import Subscription
from events.facts.upcast import UPCASTERS, Upcaster
from events.stores.commit_queue import AppendOutcome, plan_all
from events.stores.paging import COLUMNS
from events.stores.postgres_errors import is_connection_lost, translate_errors
from events.stores.postgres_location import PostgresLocation, check_schema
from events.stores.postgres_subscription import PostgresSubscription
from events.stores.rows import Row, StreamEnd, utc_now
from events.stores.sql_base import KEYED_ROWS, SqlLog
from events.stores.staging import PackedBlob
from events.stores.tally import TALLY_SINCE, Tally
from events.stores.transaction import AppendRequest, TransactionPlan

COPY_FROM_FACTS = 16
"""Facts from which on COPY is faster."""

_ENDS = """
SELECT asked.stream, last.version, last.hash FROM unnest(%s::text[]) AS asked (stream) CROSS JOIN LATERAL
(SELECT version, hash FROM events WHERE stream = asked.stream ORDER BY version DESC LIMIT 1) AS last"""
_ROWS_OF_KEYS = KEYED_ROWS.format(
    "unnest(%s::text[], %s::text[]) AS asked (stream, key) JOIN keys ON keys.stream = asked.stream AND keys.key = asked.key", ""
)
_COPY = f"COPY events ({COLUMNS}) FROM STDIN"
_ENABLED_TRIGGERS = """
SELECT tgname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND tgenabled <> 'D'"""


class PostgresLog(SqlLog):
    """A `Log` in a database."""

    _size = """
        SELECT sum(pg_total_relation_size(pg_class.oid)) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
        WHERE nspname = current_schema() AND relkind = 'r'"""
    _insert_blob = f"{SqlLog._insert_blob} ON CONFLICT DO NOTHING"
    _insert_missing_key = "INSERT INTO keys (stream, key, version, size) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
    _lock_tip = " FOR UPDATE"
    _announce = " RETURNING pg_notify(?, '')"

    def __init__(
        self,
        location: PostgresLocation,
        *,
        clock: Callable[[], datetime] = utc_now,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        """Open an existing log; `events.stores.open_log` also makes one.

        Raises:
            BadInput: there is no log of this version at `location`.
            LogError: the server cannot be reached.
        """
        super().__init__(clock=clock, upcasters=upcasters)
        self.location = location
        self.name = location.name
        self._announced_to = (location.channel,)
        self._lock = threading.RLock()
        self._reader = location.connect()
        try:
            with translate_errors(self.name):
                self.tallied = check_schema(self._reader, location) >= TALLY_SINCE
            self._writer = location.connect()
        except BaseException:
            self._reader.close()
            raise

    def _sql(self, query: str) -> str:
        return query.replace("?", "%s")

    def _commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        if self._writer.closed:
            self._writer = self.location.connect()
        try:
            return self._try_commit(requests)
        except psycopg.Error as error:
            # Nothing was sent that could have been committed, so a new connection may do it.
            if not is_connection_lost(error):
                with translate_errors(self.name):
                    raise
        self._writer.close()
        self._writer = self.location.connect()
        with translate_errors(self.name):
            return self._try_commit(requests)

    def _try_commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        blobs: list[PackedBlob] = []
        sent = False
        bulk = sum(len(request.facts) for request in requests) >= COPY_FROM_FACTS
        try:
            with self._few_round_trips(bulk):
                plan = self._plan(requests)
                outcomes = plan_all(plan, requests)
                blobs = self._staging.waiting()
                sent = bool(blobs or plan.rows or plan.keys)
                self._write(self._writer, plan, blobs, bulk=bulk)
        except psycopg.Error as error:
            if sent and is_connection_lost(error):
                message = f"The connection to the log {self.name} was lost during a commit, so whether it happened is not known"
                raise InDoubt(f"{message}; resume the run, or repeat the append under its key.") from error
            raise
        self._staging.forget(blobs)
        return outcomes

    @contextmanager
    def _few_round_trips(self, bulk: bool) -> Iterator[None]:
        # Few rows go in two round trips; many go by COPY, which a pipeline cannot hold. The driver's own `transaction` would
        # wait for the server at its beginning and at its end, which takes half as long again.
        db = self._writer
        try:
            with nullcontext() if bulk else db.pipeline():
                db.execute("BEGIN")
                yield
                db.execute("COMMIT")
        except BaseException:
            try:
                db.rollback()
            except psycopg.Error:
                db.close()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        with translate_errors(self.name), self._writer.transaction():
            yield self._writer

    def _plan(self, requests: Sequence[AppendRequest]) -> TransactionPlan:
        """Lock the tip and ask, in one round trip, for all that the requests build on."""
        db = self._writer
        keyed = {(request.stream, request.key) for request in requests if request.key is not None}
        # In a pipeline results are awaited only when they are fetched, so all three queries are sent first.
        end = db.execute((self._tip_query + self._lock_tip).encode())
        ends = db.execute(_ENDS, (list({request.stream for request in requests}),))
        streams, keys = [stream for stream, _ in keyed], [key for _, key in keyed]
        rows = db.execute(_ROWS_OF_KEYS.encode(), (streams, keys)) if keyed else None
        tip, tally = self._tip(end.fetchone())
        plan = TransactionPlan(tip, self._clock, self._upcasters, tally=Tally.parse(tally))
        plan.ends = {stream: StreamEnd(version, hash_) for stream, version, hash_ in ends.fetchall()}
        if rows is not None:
            plan.recorded = self._by_key(rows.fetchall())
        return plan

    def _insert_rows(self, cursor: psycopg.Cursor, rows: Sequence[Row], *, bulk: bool) -> None:
        if not bulk:
            return super()._insert_rows(cursor, rows, bulk=bulk)
        with cursor.copy(_COPY.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, translate_errors(self.name):
            try:
                return self._ask(query, values)
            except psycopg.Error as error:
                if not is_connection_lost(error):
                    raise
            self._reader.close()
            return self._ask(query, values)

    def _ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        if self._reader.closed:
            self._reader = self.location.connect()
        return self._reader.execute(self._sql(query).encode(), values).fetchall()

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return PostgresSubscription(self.location)

    def _triggers(self) -> tuple[dict[str, str], dict[str, str]]:
        from events.stores.schema import POSTGRES_TRIGGERS

        # Their text is the server's own, so only names are compared.
        return {name: name for name in POSTGRES_TRIGGERS}, dict(self._fetch(_ENABLED_TRIGGERS))

    def close(self) -> None:
        """See `events.facts.log.Log.close`."""
        self._queue.flush()
        with self._lock:
            self._staging.clear()
            self._reader.close()
            self._writer.close()
