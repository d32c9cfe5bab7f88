"""Damages logs, as their owner or a bad disk can."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from events.stores.postgres_location import PostgresLocation

PAGE = 4096


def execute_without_triggers(path: Path, *statements: str) -> None:
    """Change the file as its owner can: without the triggers."""
    db = sqlite3.connect(path, isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        db.execute(statement)
    db.close()


def execute_in_postgres(url: str, *statements: str) -> None:
    """Change the database as its owner can: without the triggers."""
    with PostgresLocation.parse(url).connect() as db:
        for table in ("events", "blobs", "keys", "tip"):
            db.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            db.execute(statement)


def corrupt_pages(path: Path, first: int = 2) -> None:
    """Write nonsense into the beginning of every page from `first` on; the file's header is page 0."""
    size = os.path.getsize(path)
    with path.open("r+b") as file:
        for offset in range(PAGE * first, size, PAGE):
            file.seek(offset)
            file.write(b"\xff" * 64)


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the file in place, everywhere."""
    content = path.read_bytes()
    assert old in content
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
