"""A log's file: create it, connect to it, check its schema.

Guarantees: reading never changes a file. Old files are read and appended to as they are: schema 1 becomes schema 2 in the
transaction of its first append with a key, and only a copy (`migrate`) has schema 3.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from events.facts.errors import BadInput, LogError
from events.stores.sqlite_errors import translate_errors

SCHEMA_VERSION = 3
"""Schema that this version writes, kept in `PRAGMA user_version`. See `events.stores.schema`."""
KEYS_SINCE = 2
"""Schema that brought keys."""
APPLICATION_ID = 0x47415350
"""`GASP` in ASCII, kept in `PRAGMA application_id`: marks the file as a log."""
LOCK_TIMEOUT_S = 30.0
"""Seconds that an append waits for another writer."""


def connect(path: Path, *, damaged: bool = False, read_only: bool = False, immutable: bool = False) -> sqlite3.Connection:
    """A connection that may be shared between threads, durable at every commit.

    Args:
        path: the file.
        damaged: read what can be read, even of a truncated file, and write nothing.
        read_only: let SQLite refuse every write.
        immutable: take no lock and ignore files beside it, because nobody writes it.
    """
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only or immutable else 'rw'}{'&immutable=1' * immutable}"
    db = sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    if damaged:
        # SQLite refuses every page of a file that is too short, unless its schema might be under repair.
        db.execute("PRAGMA writable_schema=ON")
        db.execute("PRAGMA query_only=ON")
    db.execute("PRAGMA synchronous=FULL")
    return db


def schema_of(db: sqlite3.Connection) -> int:
    """The file's schema number."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def check_schema(db: sqlite3.Connection, path: Path) -> int:
    """The file's schema number, which this version can read.

    Raises:
        BadInput: it is something else, or newer.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise BadInput(f"{path} is not a GASP log; give the directory or the log.sqlite of a run.")
    schema = schema_of(db)
    if not 1 <= schema <= SCHEMA_VERSION:
        readable = f"schemas 1 to {SCHEMA_VERSION}"
        raise BadInput(f"The log {path} has schema {schema}, this version reads {readable}; use the version that wrote it.")
    return schema


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
        raise LogError(f"The log {path} cannot be made ({error.strerror}); choose a directory that can be written.") from error
    with translate_errors(path), closing(connect(path)) as db:
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


def add_keys(db: sqlite3.Connection) -> None:
    """Bring a file of schema 1 to schema 2, inside the open transaction."""
    if schema_of(db) < KEYS_SINCE:
        from events.stores.schema import sqlite_keys

        for statement in sqlite_keys():
            db.execute(statement)
        db.execute(f"PRAGMA user_version={KEYS_SINCE}")
