"""What tampering with a stored log looks like, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from events.stores import open_log
from events.stores.postgres_location import PostgresLocation
from tests.support.damaged_logs import execute_in_postgres, execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed

RUNS = itertools.count()


@dataclass
class StoredLog:
    """A log with a whole iteration, closed."""

    where: str
    connect: Callable[[], Any]
    tamper: Callable[[str], None]
    """Executes a statement as the owner can: without the triggers."""


@pytest.fixture(params=["sqlite", "postgres"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> StoredLog:
    if request.param == "sqlite":
        path = tmp_path / "log.sqlite"
        stored = StoredLog(
            str(path), lambda: sqlite3.connect(path), lambda statement: execute_without_triggers(path, statement)
        )
    else:
        url = f"{request.getfixturevalue('postgres')}?run=tampered{next(RUNS)}"
        stored = StoredLog(url, PostgresLocation.parse(url).connect, lambda statement: execute_in_postgres(url, statement))
    with closing(open_log(stored.where, create=True)) as log:
        example_run(log).run().goalpost(2).play().update()
        log.append("keyed", [episode_failed()], key="k")
    return stored


@pytest.mark.parametrize(
    ("statement", "position", "problem"),
    [
        ("UPDATE events SET data = replace(data, 'scene', 'scenf') WHERE position = 3", 3, "content does not match"),
        ("UPDATE events SET stream = 'x' WHERE position = 4", 4, "content does not match|from version"),
        ("UPDATE events SET causation = 1 WHERE position = 5", 5, "content does not match"),
        ("UPDATE events SET head = prev_hash WHERE position = 6", 6, "head does not follow"),
        ("DELETE FROM events WHERE position = 7", 7, "missing; the next one is at 8"),
        ("DELETE FROM events WHERE position > 20", 21, "the tail was cut off"),
        ("DELETE FROM events", 1, "the tail was cut off"),
        ("UPDATE tip SET head = 'x'", None, "another head"),
        ("UPDATE tip SET position = position - 1", None, "another head"),
        ("UPDATE tip SET tally = replace(tally, 'rollouts\":', 'rollouts\":1')", None, "the tally is not that of the events"),
        ("UPDATE keys SET size = 2", None, "key 'k' of stream 'keyed' names events that are not there"),
        ("UPDATE blobs SET content = substr(content, 2)", 2, "does not match its hash"),
        ("DELETE FROM blobs", 2, "is missing"),
    ],
)
def test_verify_names_the_first_changed_position(stored: StoredLog, statement: str, position: int | None, problem: str) -> None:
    stored.tamper(statement)
    broken = open_log(stored.where).verify()
    assert broken is not None
    assert re.search(problem, broken.problem)
    assert position in (None, broken.position)


def test_verify_finds_events_behind_the_tip(stored: StoredLog) -> None:
    last = open_log(stored.where).head().position
    head = next(open_log(stored.where).read(after=last - 2)).head
    stored.tamper(f"UPDATE tip SET position = {last - 1}, head = '{head}'")
    assert open_log(stored.where).verify() == (last, "the log ends before this event; it was added from outside")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = '{}' WHERE position = 1",
        "DELETE FROM events WHERE position = 1",
        "INSERT INTO events SELECT * FROM events WHERE position = 1 ON CONFLICT (position) DO UPDATE SET data = ''",
        "UPDATE blobs SET content = substr(content, 2)",
        "DELETE FROM blobs",
        "UPDATE keys SET version = 2",
        "DELETE FROM keys",
        "DELETE FROM tip",
        "UPDATE tip SET position = 0",
    ],
)
def test_the_database_itself_refuses_to_change_what_is_recorded(stored: StoredLog, statement: str) -> None:
    refusals = (sqlite3.IntegrityError, psycopg.errors.RestrictViolation)
    with closing(stored.connect()) as db, pytest.raises(refusals, match="append-only"):
        db.execute(statement)
    assert open_log(stored.where).verify() is None
