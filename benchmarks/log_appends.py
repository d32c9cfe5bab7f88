"""Appends: our stores against the bare drivers and against the library `eventsourcing`.

All write the same payload in transactions of the same size, each on the disk before the next: SQLite in WAL mode with
synchronous=FULL, PostgreSQL with synchronous_commit=on, all files in one folder. The bare driver gets finished rows and only
inserts them; ours makes the JSON, validates, hashes, checks versions and counts.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import starmap
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benchmarks.repeated_log import played_log
from benchmarks.rounds import Claim, interleaved, rate
from events.facts.fact import Fact
from events.facts.hashing import data_of
from events.facts.log import Head, Log
from events.stores import open_log
from events.stores.rows import EMPTY_STREAM, Row, seal, utc_now

PRODUCERS = 64
BATCHES = (1, 64)
MIN_RATIO_RAW, MIN_RATIO_LIBRARY = 0.7, 2.0
TIMEOUT_S = 120
TABLE = """
CREATE TABLE raw (position {whole} PRIMARY KEY, stream TEXT NOT NULL, version {whole} NOT NULL, kind TEXT NOT NULL,
schema_version INTEGER NOT NULL, data TEXT NOT NULL, causation {whole}, prev_hash TEXT NOT NULL, hash TEXT NOT NULL,
head TEXT NOT NULL, time TEXT NOT NULL, observed TEXT NOT NULL, UNIQUE (stream, version))"""
INSERT = f"INSERT INTO raw VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608  # a constant


class Payload:
    """Facts in the proportions of a run, again and again, and the rows they make."""

    def __init__(self) -> None:
        self._facts = itertools.cycle([event.fact for event in played_log().read()])
        self._tip = Head(0, EMPTY_STREAM.hash)

    def facts(self, count: int) -> list[Fact]:
        """The next `count` facts."""
        return list(itertools.islice(self._facts, count))

    def rows(self, stream: str, facts: Sequence[Fact]) -> list[Row]:
        """The rows that they are stored as."""
        rows = seal(facts, stream=stream, end=EMPTY_STREAM, tip=self._tip, time=utc_now(), causation=None, observed=None)
        self._tip = Head(rows[-1].position, rows[-1].head)
        return rows


def append_claims(folder: Path, url: str, *, rounds: int, events: int) -> list[Claim]:
    """Our stores in `folder` and the PostgreSQL database `url` against the bare drivers, batch by batch.

    `events` are those of a round with batches of one; ten times as many go in larger batches.
    """
    claims, payload = [], Payload()
    with ExitStack() as stack:
        logs: dict[str, Log] = {
            "SQLite": stack.enter_context(closing(open_log(folder / "ours.sqlite", create=True))),
            "PostgreSQL": stack.enter_context(closing(open_log(f"{url}?run=ours", create=True))),
        }
        raw = {"SQLite": ("raw sqlite3", _raw_sqlite(stack, folder)), "PostgreSQL": ("raw psycopg", _raw_postgres(stack, url))}
        for batch, (store, log) in itertools.product(BATCHES, logs.items()):
            count = events if batch == 1 else 10 * events // batch
            name, write = raw[store]
            turns = {"ours": partial(_ours, log, payload, batch, count), "raw": partial(_raw, write, payload, batch, count)}
            rates = interleaved(turns, rounds)
            claims.append(Claim(f"append to {store}, batch {batch}", rates["ours"], name, rates["raw"], MIN_RATIO_RAW))
    return claims


def _ours(log: Log, payload: Payload, batch: int, count: int) -> float:
    work = [(f"episode/{uuid4()}", payload.facts(batch)) for _ in range(count)]
    return rate(batch * count, lambda: deque(starmap(log.append, work), maxlen=0))


def _raw(write: Callable[[Sequence[Row]], object], payload: Payload, batch: int, count: int) -> float:
    work = [payload.rows(f"episode/{uuid4()}", payload.facts(batch)) for _ in range(count)]
    return rate(batch * count, lambda: deque(map(write, work), maxlen=0))


def _raw_sqlite(stack: ExitStack, folder: Path) -> Callable[[Sequence[Row]], object]:
    db = stack.enter_context(closing(sqlite3.connect(folder / "raw.sqlite", isolation_level=None)))
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(TABLE.format(whole="INTEGER"))

    def write(rows: Sequence[Row]) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(INSERT, rows)
        db.execute("COMMIT")

    return write


def _raw_postgres(stack: ExitStack, url: str) -> Callable[[Sequence[Row]], object]:
    db = stack.enter_context(psycopg.connect(url, autocommit=True))
    db.execute(TABLE.format(whole="BIGINT"))
    statement = INSERT.replace("?", "%s").encode()

    def write(rows: Sequence[Row]) -> None:
        with db.transaction(), db.cursor() as cursor:
            cursor.executemany(statement, rows)

    return write


def producers(folder: Path, url: str, *, rounds: int, events: int) -> list[Claim]:
    """Many threads that append one event at a time, `events` of them in a round, to ours and by the library's recorders."""
    claims, payload = [], Payload()
    with ExitStack() as stack:
        pairs: dict[str, tuple[Path | str, ApplicationRecorder]] = {
            "SQLite": (folder / "many.sqlite", library_sqlite(stack, folder / "library.sqlite")),
            "PostgreSQL": (f"{url}?run=many", _library_postgres(stack, url)),
        }
        for store, (location, recorder) in pairs.items():
            log = stack.enter_context(closing(open_log(location, create=True)))
            writers = {"ours": _log_writer(log), "library": _library_writer(recorder)}
            rates = interleaved({name: partial(_many, payload, events, writer) for name, writer in writers.items()}, rounds)
            what = f"append to {store}, batch 1, {PRODUCERS} producers"
            claims.append(Claim(what, rates["ours"], "eventsourcing", rates["library"], MIN_RATIO_LIBRARY))
    return claims


def _many(payload: Payload, events: int, writer: Callable[[], Callable[[int, Fact], object]]) -> float:
    """Events a second when every producer appends to a stream of its own, at the version that it expects."""
    each = max(1, events // PRODUCERS)
    work = [(writer(), payload.facts(each)) for _ in range(PRODUCERS)]

    def produce(part: tuple[Callable[[int, Fact], object], list[Fact]]) -> None:
        write, facts = part
        for version, fact in enumerate(facts):
            write(version, fact)

    with ThreadPoolExecutor(PRODUCERS) as pool:
        return rate(each * PRODUCERS, lambda: list(pool.map(produce, work)))


def _log_writer(log: Log) -> Callable[[], Callable[[int, Fact], object]]:
    def writer() -> Callable[[int, Fact], object]:
        stream = f"episode/{uuid4()}"
        return lambda version, fact: log.append(stream, [fact], expected=version)

    return writer


def _library_writer(recorder: ApplicationRecorder) -> Callable[[], Callable[[int, Fact], object]]:
    def writer() -> Callable[[int, Fact], object]:
        stream = uuid4()
        # The payload is the very text that we store.
        return lambda version, fact: recorder.insert_events(
            [StoredEvent(stream, version + 1, type(fact).__name__, data_of(fact).encode())]
        )

    return writer


def library_sqlite(stack: ExitStack, path: Path) -> SQLiteApplicationRecorder:
    """A recorder of the library on a new file, closed with the stack."""
    datastore = SQLiteDatastore(str(path), pool_timeout=TIMEOUT_S, lock_timeout=TIMEOUT_S)
    stack.callback(datastore.close)
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    return recorder


def _library_postgres(stack: ExitStack, url: str) -> PostgresApplicationRecorder:
    where = urlsplit(url)
    datastore = PostgresDatastore(
        dbname=where.path.lstrip("/"),
        host=where.hostname or "",
        port=where.port or 5432,
        user=where.username or "",
        password=where.password or "",
        connect_timeout=TIMEOUT_S,
        pool_size=8,
    )
    stack.callback(datastore.close)
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    return recorder
