"""The log in a PostgreSQL database (15 or later), for play on several machines.

Law: an append locks the row of the tip until it has committed, so that positions grow in commit order for any number of
processes, and a reader that asks for "after position p" misses nothing; appends of one process that wait at the same time
share a transaction. Reading has a connection of its own and holds no transaction between pages. A lost connection is made
again; an append whose commit was lost is `InDoubt`. It does not set the server up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

import psycopg

from events.facts.errors import InDoubt, LogError
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
from events.stores.postgres_errors import is_connection_lost, translate_errors
from events.stores.postgres_location import PostgresLocation, check_schema
from events.stores.postgres_subscription import PostgresSubscription
from events.stores.raw import RawLog
from events.stores.rows import EMPTY_STREAM, Row, StreamEnd, check_tip, find_corruption, open_row, utc_now, with_progress
from events.stores.staging import PackedBlob, Staging, unpack_blob
from events.stores.tally import TALLY_SINCE, Tally
from events.stores.transaction import AppendRequest, Key, TransactionPlan

COPY_FROM_FACTS = 16
"""Facts from which on COPY is faster."""

_SIZE = """
SELECT sum(pg_total_relation_size(pg_class.oid)) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
WHERE nspname = current_schema() AND relkind = 'r'"""
_ENDS = """
SELECT asked.stream, last.version, last.hash FROM unnest(%s::text[]) AS asked (stream) CROSS JOIN LATERAL
(SELECT version, hash FROM events WHERE stream = asked.stream ORDER BY version DESC LIMIT 1) AS last"""
_KEYS = f"""
SELECT keys.stream, keys.key, {", ".join(f"events.{column}" for column in Row._fields)}
FROM unnest(%s::text[], %s::text[]) AS asked (stream, key)
JOIN keys ON keys.stream = asked.stream AND keys.key = asked.key
LEFT JOIN events ON events.stream = keys.stream
AND events.version >= keys.version AND events.version < keys.version + keys.size
ORDER BY events.position"""  # noqa: S608  # constants only
_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join(['%s'] * len(Row._fields))})"  # noqa: S608  # constants only
_COPY = f"COPY events ({COLUMNS}) FROM STDIN"
_MOVE_TIP = "UPDATE tip SET position = %s, head = %s{} WHERE id = 1 RETURNING pg_notify(%s, '')"
_INSERT_BLOB = "INSERT INTO blobs (hash, size, content) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_INSERT_KEY = "INSERT INTO keys (stream, key, version, size) VALUES (%s, %s, %s, %s)"
_LOST_KEY = """
SELECT stream, key FROM keys WHERE version < 1 OR size < 0
OR version + size - 1 > coalesce((SELECT max(version) FROM events WHERE events.stream = keys.stream), 0) LIMIT 1"""


class PostgresLog(QueuedAppends):
    """A `Log` in a database. Safe to share between threads; every process opens its own."""

    def __init__(
        self,
        place: PostgresLocation,
        *,
        clock: Callable[[], datetime] = utc_now,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        """Open an existing log; `events.stores.open_log` also makes one.

        Raises:
            BadInput: there is no log of this version at `place`.
            LogError: the server cannot be reached.
        """
        self.place = place
        self._clock = clock
        self._upcasters = upcasters
        self._staging = Staging()
        self._group = CommitQueue(self._commit)
        self._lock = threading.RLock()
        self._reader = place.connect()
        try:
            with translate_errors(place.name):
                self._tallied = check_schema(self._reader, place) >= TALLY_SINCE
            self._ask_tip = f"SELECT position, head, {'tally' if self._tallied else 'NULL'} FROM tip"  # noqa: S608
            self._writer = place.connect()
            self._seen = self.head().position
        except BaseException:
            self._reader.close()
            raise

    def _commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        if self._writer.closed:
            self._writer = self.place.connect()
        try:
            return self._try_commit(requests)
        except psycopg.Error as error:
            # Nothing was sent that could have been committed, so a new connection may do it.
            if not is_connection_lost(error):
                with translate_errors(self.place.name):
                    raise
        self._writer.close()
        self._writer = self.place.connect()
        with translate_errors(self.place.name):
            return self._try_commit(requests)

    def _try_commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        blobs: list[PackedBlob] = []
        sent = False
        bulk = sum(len(request.facts) for request in requests) >= COPY_FROM_FACTS
        try:
            with self._transaction(bulk):
                plan = self._plan(requests)
                before = plan.tip.position
                outcomes = plan_all(plan, requests)
                blobs = self._staging.waiting()
                sent = bool(blobs or plan.rows or plan.keys)
                self._write(plan, blobs, bulk)
        except psycopg.Error as error:
            if sent and is_connection_lost(error):
                message = (
                    f"the connection to the log {self.place.name} was lost during a commit, so whether it happened is not known"
                )
                raise InDoubt(f"{message}; resume the run, or repeat the append under its key") from error
            raise
        self._staging.forget(blobs)
        with self._lock:
            if before == self._seen:
                self._seen = plan.tip.position
        return outcomes

    @contextmanager
    def _transaction(self, bulk: bool) -> Iterator[None]:
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

    def _plan(self, requests: Sequence[AppendRequest]) -> TransactionPlan:
        """Lock the tip and ask, in one round trip, for all that the requests build on."""
        db = self._writer
        keyed = {(request.stream, request.key) for request in requests if request.key is not None}
        end = db.execute(f"{self._ask_tip} FOR UPDATE")
        ends = db.execute(_ENDS, (list({request.stream for request in requests}),))
        keys = db.execute(_KEYS, ([stream for stream, _ in keyed], [key for _, key in keyed])) if keyed else None
        tip, tally = self._tip(end.fetchone())
        plan = TransactionPlan(tip, self._clock, self._upcasters, tally=Tally.parse(tally))
        plan.ends = {stream: StreamEnd(version, hash_) for stream, version, hash_ in ends.fetchall()}
        if keys is not None:
            plan.recorded = self._by_key(keys.fetchall())
        return plan

    def _write(self, plan: TransactionPlan, blobs: Sequence[PackedBlob], bulk: bool) -> None:
        cursor = self._writer.cursor()
        if blobs:
            cursor.executemany(_INSERT_BLOB, blobs)
        if bulk:
            with cursor.copy(_COPY) as copy:
                for row in plan.rows:
                    copy.write_row(row)
        elif plan.rows:
            cursor.executemany(_INSERT, plan.rows)
        if plan.rows:
            tally = [] if plan.tally is None else [plan.tally.add(plan.rows).text()]
            move = _MOVE_TIP.format(", tally = %s" if tally else "").encode()
            cursor.execute(move, (*plan.tip, *tally, self.place.channel))
        if plan.keys:
            cursor.executemany(_INSERT_KEY, plan.keys)

    def read(
        self, stream: str | None = None, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[Event]:
        """See `events.facts.log.Log.read`. Ends where the log ended when reading began."""
        until = self.head().position
        for row in read_pages(self._fetch, stream, mark="%s", after=after, until=until, kinds=kinds, limit=limit):
            yield open_row(row, self._upcasters)

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, translate_errors(self.place.name):
            try:
                return self._ask(query, values)
            except psycopg.Error as error:
                if not is_connection_lost(error):
                    raise
            self._reader.close()
            return self._ask(query, values)

    def _ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        if self._reader.closed:
            self._reader = self.place.connect()
        return self._reader.execute(query.encode(), values).fetchall()

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`."""
        return self._by_key(self._fetch(_KEYS, ([stream], [key]))).get((stream, key))

    def _by_key(self, found: Sequence[Any]) -> dict[tuple[str, str], list[Event]]:
        recorded: dict[tuple[str, str], list[Event]] = {}
        for stream, key, *rest in found:
            events = recorded.setdefault((stream, key), [])
            # An empty append has a key and no event.
            if rest[0] is not None:
                events.append(open_row(Row._make(rest), self._upcasters))
        return recorded

    def version(self, stream: str) -> int:
        """See `events.facts.log.Log.version`."""
        found = self._fetch(_ENDS, ([stream],))
        return (StreamEnd(*found[0][1:]) if found else EMPTY_STREAM).version

    def head(self) -> Head:
        """See `events.facts.log.Log.head`."""
        return self._end()[0]

    def _end(self) -> tuple[Head, str | None]:
        return self._tip(next(iter(self._fetch(self._ask_tip)), None))

    def _tip(self, found: tuple[Any, ...] | None) -> tuple[Head, str | None]:
        """Where the log ends, and its tally as stored."""
        if found is None:
            raise LogError(f"the log {self.place.name} has lost its tip; it was changed from outside, restore a backup")
        position, head, tally = found
        return Head(position, head), tally

    def changed(self) -> bool:
        """See `events.facts.log.Log.changed`."""
        with self._lock:
            before, self._seen = self._seen, self.head().position
            return self._seen != before

    def subscribe(self) -> Subscription:
        """See `events.facts.log.Log.subscribe`."""
        return PostgresSubscription(self.place)

    def verify(
        self, on_progress: ProgressCallback = ignore_progress, on_anomaly: AnomalyCallback = ignore_anomaly
    ) -> Corruption | None:
        """See `events.facts.log.Log.verify`."""
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
        last, end = self._fetch("SELECT (SELECT max(position) FROM events), position FROM tip")[0]
        if (last or 0) > end:
            return Corruption(end + 1, "the log ends before this event; it was added from outside")
        if lost := self._fetch(_LOST_KEY):
            return Corruption(end, f"key {lost[0][1]!r} of stream {lost[0][0]!r} names events that are not there")
        return None

    def _remarks(self, named: int) -> Iterator[str]:
        from events.stores.schema import POSTGRES_TRIGGERS

        yield from unreferenced_blobs(self._fetch("SELECT count(*) FROM blobs")[0][0], named)
        enabled = """
            SELECT tgname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
            WHERE relnamespace = current_schema()::regnamespace AND tgenabled <> 'D'"""
        yield from missing_triggers({name: name for name in POSTGRES_TRIGGERS}, dict(self._fetch(enabled)))

    def put(self, content: bytes) -> BlobHash:
        """See `events.facts.log.Log.put`."""
        return self._staging.put(content)

    def get(self, blob: BlobHash) -> bytes:
        """See `events.facts.log.Log.get`."""
        staged = self._staging.get(blob)
        return self._stored(blob) if staged is None else staged

    def _stored(self, blob: BlobHash) -> bytes:
        found = self._fetch("SELECT content FROM blobs WHERE hash = %s", (blob,))
        return unpack_blob(blob, found[0][0] if found else None)

    def raw(self) -> RawLog:
        """See `events.stores.raw.Store.raw`."""
        return RawLog(self._fetch, mark="%s")

    def stats(self) -> LogStats:
        """See `events.stores.raw.Store.stats`."""
        tip, tally = self._end()
        return log_stats(tip, tally, self.raw().rows(until=tip.position), self._fetch, _SIZE)

    def append_rows(self, tip: Head, rows: Sequence[Row], blobs: Sequence[PackedBlob]) -> None:
        """See `events.stores.raw.Store.append_rows`."""
        with self._group.paused(), translate_errors(self.place.name), self._writer.transaction():
            found, tally = self._tip(self._writer.execute(f"{self._ask_tip} FOR UPDATE").fetchone())
            check_tip(self.place.name, found, tip)
            plan = TransactionPlan(Head(rows[-1].position, rows[-1].head), tally=Tally.parse(tally), rows=list(rows))
            self._write(plan, blobs, bulk=True)

    def append_keys(self, keys: Sequence[Key]) -> None:
        """See `events.stores.raw.Store.append_keys`."""
        with self._group.paused(), translate_errors(self.place.name), self._writer.transaction():
            self._writer.cursor().executemany(f"{_INSERT_KEY} ON CONFLICT DO NOTHING", keys)

    def close(self) -> None:
        """See `events.facts.log.Log.close`."""
        self._group.flush()
        with self._lock:
            self._staging.clear()
            self._reader.close()
            self._writer.close()
