"""The log in a PostgreSQL database (15 or later), for play on several machines.

Guarantees:
- An append locks the row of the tip until it has committed, so that positions grow in commit order for any number of
  processes, and a reader that asks for "after position p" misses nothing.
- A lost connection is made again; an append whose commit was lost raises `InDoubt`.

A process that appends alone knows where the log ends. It plans the next append from that and sends it as one statement, which
does nothing where the tip has moved. Otherwise the tip is locked and the server asked, in a transaction of two round trips.

Not responsible for: setting the server up.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import UniqueViolation

from events.facts.errors import InDoubt
from events.facts.log import Head, Subscription
from events.facts.upcast import UPCASTERS, Upcaster
from events.stores.commit_queue import AppendOutcome, plan_all
from events.stores.postgres_errors import is_connection_lost, translate_errors
from events.stores.postgres_location import PostgresLocation, check_schema
from events.stores.postgres_subscription import PostgresSubscription
from events.stores.rows import Row, StreamEnd, utc_now
from events.stores.sql_base import KEYED_ROWS, SqlLog
from events.stores.tally import TALLY_SINCE, Tally
from events.stores.transaction import AppendRequest, Key, TransactionPlan

MAX_ENDS = 10_000
"""Most streams whose ends are remembered."""
IDLE_S = 60.0
"""Seconds after which an idle connection may have been lost without a word."""

_ENDS = """
SELECT asked.stream, last.version, last.hash FROM unnest(%s::text[]) AS asked (stream) CROSS JOIN LATERAL
(SELECT version, hash FROM events WHERE stream = asked.stream ORDER BY version DESC LIMIT 1) AS last"""
_ROWS_OF_KEYS = KEYED_ROWS.format(
    "unnest(%s::text[], %s::text[]) AS asked (stream, key) JOIN keys ON keys.stream = asked.stream AND keys.key = asked.key", ""
)
# Rows as one text of JSON: as fast as COPY, which no pipeline can hold.
_INSERT_ROWS = "INSERT INTO events SELECT fresh.* FROM {} json_populate_recordset(NULL::events, %s) AS fresh"
# An append as one statement; what has to follow the move of the tip selects from it.
_MOVE_TIP = """
WITH moved AS (
  UPDATE tip SET position = %s, head = %s, tally = %s WHERE id = 1 AND position = %s AND head = %s RETURNING pg_notify(%s, '')
)"""
_THEN_BLOBS = """, written_blobs AS (
  INSERT INTO blobs SELECT fresh.* FROM moved, unnest(%s::text[], %s::bigint[], %s::bytea[]) AS fresh ON CONFLICT DO NOTHING
)"""
_THEN_KEYS = """, written_keys AS (
  INSERT INTO keys SELECT fresh.* FROM moved, json_populate_recordset(NULL::keys, %s) AS fresh
)"""
_ENABLED_TRIGGERS = """
SELECT tgname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND tgenabled <> 'D'"""


class KnownEnd(NamedTuple):
    """Where this process left the log."""

    tip: Head
    tally: str | None
    ends: dict[str, StreamEnd]
    """Ends of streams that were appended to."""
    alone: bool
    """Whether nobody else had appended since its append before."""


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
        self._known: KnownEnd | None = None
        self._used = 0.0
        """When the writing connection was last used."""
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
        with translate_errors(self.name):
            if self._known is not None and self._known.alone and self._is_surely_connected():
                outcomes = self._append_to_known_end(self._known, requests)
                if outcomes is not None:
                    return outcomes
            if not self._writer.closed:
                try:
                    return self._append_to_locked_end(requests)
                except psycopg.Error as error:
                    # Nothing was sent that could have been committed, so a new connection may do it.
                    if not is_connection_lost(error):
                        raise
                self._writer.close()
            self._writer = self.location.connect()
            return self._append_to_locked_end(requests)

    def _is_surely_connected(self) -> bool:
        """Whether the writing connection was in use a moment ago, and the server has not ended it since."""
        if self._writer.closed or time.monotonic() - self._used > IDLE_S:
            return False
        # A server that is asked nothing says nothing, unless it ends the connection.
        return not select.select([self._writer.fileno()], [], [], 0)[0]

    def _append_to_known_end(self, known: KnownEnd, requests: Sequence[AppendRequest]) -> list[AppendOutcome] | None:
        """Append in one statement; None if somebody has to be asked first, and nothing was appended."""
        plan = TransactionPlan(known.tip, self._clock, self._upcasters, tally=Tally.parse(known.tally))
        # Other streams are taken for empty and keys for new; where they are not, a constraint refuses the statement.
        streams = {request.stream for request in requests}
        plan.ends = {stream: known.ends[stream] for stream in streams if stream in known.ends}
        outcomes = plan_all(plan, requests)
        if plan.tally is None or not plan.rows or any(isinstance(outcome, Exception) for outcome in outcomes):
            return None
        blobs = self._staging.waiting()
        statement = _MOVE_TIP
        values: list[Any] = [*plan.tip, plan.tally.add(plan.rows).text(), *known.tip, self.location.channel]
        if blobs:
            statement += _THEN_BLOBS
            values += map(list, zip(*blobs, strict=True))
        if plan.keys:
            statement += _THEN_KEYS
            values.append(_as_json(plan.keys))
        statement += _INSERT_ROWS.format("moved,")
        values.append(_as_json(plan.rows))
        try:
            written = self._writer.execute(statement.encode(), values).rowcount
        except UniqueViolation:
            return None
        except psycopg.Error as error:
            self._raise_in_doubt(error)
            raise
        if written:
            self._staging.forget(blobs)
            self._remember(plan, known.ends, alone=True)
        return outcomes if written else None

    def _append_to_locked_end(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        sent = False
        try:
            with self._two_round_trips():
                plan = self._plan(requests)
                found = plan.tip
                outcomes = plan_all(plan, requests)
                blobs = self._staging.waiting()
                sent = bool(blobs or plan.rows or plan.keys)
                self._write(self._writer, plan, blobs)
        except psycopg.Error as error:
            if sent:
                self._raise_in_doubt(error)
            raise
        self._staging.forget(blobs)
        known = self._known
        alone = known is not None and found == known.tip
        self._remember(plan, known.ends if known is not None and alone else {}, alone=alone)
        return outcomes

    def _raise_in_doubt(self, error: psycopg.Error) -> None:
        if is_connection_lost(error):
            message = f"The connection to the log {self.name} was lost during a commit, so whether it happened is not known"
            raise InDoubt(f"{message}; resume the run, or repeat the append under its key.") from error

    def _remember(self, plan: TransactionPlan, ends: dict[str, StreamEnd], *, alone: bool) -> None:
        """Remember the end of the log after a plan; `ends` are those of other streams."""
        if len(ends) > MAX_ENDS:
            ends.clear()
        ends.update(plan.ends)
        self._known = KnownEnd(plan.tip, None if plan.tally is None else plan.tally.text(), ends, alone)
        self._used = time.monotonic()

    @contextmanager
    def _two_round_trips(self) -> Iterator[None]:
        # The driver's own `transaction` would wait for the server at its beginning and at its end, too.
        db = self._writer
        try:
            with db.pipeline():
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

    def _insert_rows(self, cursor: psycopg.Cursor, rows: Sequence[Row]) -> None:
        cursor.execute(_INSERT_ROWS.format("").encode(), (_as_json(rows),))

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


def _as_json(table: Sequence[Row | Key]) -> str:
    return json.dumps([row._asdict() for row in table])
