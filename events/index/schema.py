"""Tables of an index; opens, creates and empties its file.

The file is a cache: one of another schema, or that is no database, is emptied or replaced, never repaired. What is written
survives a crash of the process but not of the machine, which costs no more than making the index again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from events.facts.consumers import immediate_transaction
from events.facts.errors import LogError
from events.facts.hashing import ZERO_HASH

SCHEMA_VERSION = 9
"""Schema of the tables and of their content; kept in `PRAGMA user_version`."""
LOCK_TIMEOUT_S = 30.0
"""Seconds that a connection waits for another one that writes."""

TABLES = (
    "CREATE TABLE iterations (iteration INTEGER PRIMARY KEY, student TEXT NOT NULL)",
    """CREATE TABLE episodes (
        stream TEXT PRIMARY KEY, position INTEGER NOT NULL, iteration INTEGER NOT NULL, purpose TEXT NOT NULL,
        question TEXT NOT NULL, axis TEXT NOT NULL, level TEXT, ending TEXT) WITHOUT ROWID""",
    "CREATE INDEX episodes_of ON episodes (question, position)",
    """CREATE TABLE goalposts (
        question TEXT PRIMARY KEY, blob TEXT NOT NULL, title TEXT NOT NULL, source TEXT NOT NULL,
        episodes INTEGER NOT NULL DEFAULT 0, lemmas INTEGER NOT NULL DEFAULT 0, lifts INTEGER NOT NULL DEFAULT 0,
        measures INTEGER NOT NULL DEFAULT 0, stride INTEGER NOT NULL DEFAULT 1, history TEXT NOT NULL DEFAULT '[]',
        first_gap REAL, last_gap REAL, best_gap REAL, best_share REAL, solved_after INTEGER)""",
    """CREATE TABLE gaps (
        goalpost TEXT NOT NULL, position INTEGER NOT NULL, stream TEXT NOT NULL, iteration INTEGER NOT NULL, policy TEXT,
        successes INTEGER NOT NULL, attempts INTEGER NOT NULL, best_share REAL,
        PRIMARY KEY (goalpost, position)) WITHOUT ROWID""",
    """CREATE TABLE appearances (
        position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL, origin TEXT NOT NULL,
        question TEXT, blob TEXT, title TEXT NOT NULL DEFAULT '', iteration INTEGER, goalpost TEXT, parent TEXT, source TEXT,
        seat TEXT, attempt INTEGER, axis TEXT, accepted INTEGER, reason TEXT, detail TEXT NOT NULL DEFAULT '',
        similarity REAL, aligned INTEGER, successes INTEGER, attempts INTEGER, agreeing INTEGER NOT NULL DEFAULT 0, reward REAL,
        texts TEXT, vote TEXT, given TEXT, document TEXT, level TEXT)""",
    "CREATE UNIQUE INDEX appearances_at ON appearances (stream, version)",
    "CREATE INDEX appearances_of ON appearances (question, position)",
    "CREATE INDEX appearances_under ON appearances (goalpost, position)",
    """CREATE TABLE answers (
        position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL, iteration INTEGER,
        purpose TEXT NOT NULL, question TEXT NOT NULL, task TEXT NOT NULL, pair INTEGER, policy TEXT NOT NULL,
        count INTEGER NOT NULL, tokens INTEGER NOT NULL, outcomes TEXT NOT NULL DEFAULT '{}', reward REAL,
        rewarded_at INTEGER, passed INTEGER, axis TEXT, goalpost TEXT, texts TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX answers_at ON answers (stream, version)",
    "CREATE INDEX answers_of ON answers (question, position)",
    "CREATE INDEX answers_under ON answers (goalpost, position)",
    # Positions of answers, and of the appearances of the questions that they answer.
    """CREATE TABLE outcomes (
        outcome TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (outcome, position)) WITHOUT ROWID""",
    "CREATE TABLE shapes (shape TEXT PRIMARY KEY, question TEXT NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE signs (
        number INTEGER PRIMARY KEY, position INTEGER NOT NULL, rule TEXT NOT NULL, evidence TEXT NOT NULL, iteration INTEGER,
        question TEXT, other TEXT, stream TEXT, version INTEGER, attempt INTEGER)""",
    "CREATE INDEX signs_of ON signs (rule, position)",
    "CREATE INDEX signs_at ON signs (position, number)",
    # Rows are 2 * position, and one more for the question of a proposal whose completion does not hold it.
    "CREATE VIRTUAL TABLE asked USING fts5 (text, content='')",
    "CREATE VIRTUAL TABLE answered USING fts5 (text, content='')",
)


def connect(path: Path, *, reading: bool = False) -> sqlite3.Connection:
    """A connection that may be shared between threads; it creates a missing file, or for `reading` refuses to write.

    Raises:
        LogError: it cannot be opened.
    """
    try:
        if not reading:
            path.parent.mkdir(parents=True, exist_ok=True)
        address = f"{path.absolute().as_uri()}?mode={'rw' if reading else 'rwc'}"
        db = sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA query_only=ON" if reading else "PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
    except (OSError, sqlite3.OperationalError) as error:
        message = f"The index {path} cannot be opened ({error})"
        raise LogError(f"{message}; free some disk, or set XDG_CACHE_HOME to a folder that you can write.") from error
    return db


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection for writing; a file of another schema is emptied."""
    try:
        db = connect(path)
        create_tables(db, anew=False)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise LogError(f"The index {path} cannot be made ({error}); delete it, or free some disk.") from error
        # It is no database, so nobody has it open as one.
        for end in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{end}").unlink(missing_ok=True)
        db = connect(path)
        create_tables(db, anew=False)
    return db


def create_tables(db: sqlite3.Connection, *, anew: bool) -> None:
    """Create the tables unless the file has them in this schema; `anew`: drop all rows first.

    Tables are dropped and the file stays, because another process may have it open; its consumer finds the checkpoint reset.
    """
    with immediate_transaction(db):
        if anew or db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            while table := db.execute(_ANY_TABLE, ("checkpoint" if anew else "",)).fetchone():
                db.execute(f'DROP TABLE "{table[0]}"')
            for statement in TABLES:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        if anew:
            db.execute("UPDATE checkpoint SET position = 0, head = ?", (ZERO_HASH,))


# Virtual tables first: dropping one drops its own tables.
_ANY_TABLE = """
SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name != ?
ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC LIMIT 1"""
