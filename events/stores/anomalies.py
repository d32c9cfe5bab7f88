"""Oddities of a stored log that no hash covers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_LOG_FILES = ("run.log", "trainer.log")
"""Files of a run whose lines name positions ..."""
_POSITION_FIELDS = ("position", "until")
"""... in these fields."""


def unreferenced_blobs(stored: int, referenced: int) -> Iterator[str]:
    """A sentence about blobs that no event names."""
    if stored > referenced:
        blobs = "1 blob is" if stored - referenced == 1 else f"{stored - referenced} blobs are"
        yield f"{blobs} named by no event: added from outside, or left by an append that was cut short; they change nothing"


def missing_triggers(wanted: Mapping[str, str], existing: Mapping[str, str]) -> Iterator[str]:
    """A sentence about triggers that are missing or changed; text by name."""
    names = [name for name, text in wanted.items() if " ".join(existing.get(name, "").split()) != " ".join(text.split())]
    if names:
        what = f"trigger {names[0]} is" if len(names) == 1 else f"triggers {', '.join(names)} are"
        yield f"the {what} missing or changed, so SQL can change the log; migrate copies it into a new one that has them"


def missing_wal(path: Path) -> str | None:
    """Why the log's write-ahead file must have been lost; None where nothing shows that. Call it before the log is opened."""
    wal, shm = (path.with_name(f"{path.name}{suffix}").exists() for suffix in ("-wal", "-shm"))
    if shm and not wal:
        return f"{path.name}-shm is there without {path.name}-wal, which held what was appended last"
    return None


def lost_tail(path: Path, end: int) -> str | None:
    """Which file beside a log that ends at a position names a later one; None where none does."""
    positions = {path.with_name("index.sqlite").name: _indexed(path.with_name("index.sqlite"))}
    positions |= {name: _logged(path.with_name(name)) for name in _LOG_FILES}
    name, position = max(positions.items(), key=lambda pair: pair[1])
    if position <= end:
        return None
    return f"{name} names position {position}, and the log ends at {end}; unless it was restored, its end was lost"


def _indexed(index: Path) -> int:
    with suppress(sqlite3.Error, TypeError, ValueError):
        if index.is_file():
            with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
                return int(db.execute("SELECT max(position) FROM checkpoint").fetchone()[0])
    return 0


def _logged(file: Path) -> int:
    try:
        lines = file.read_bytes().splitlines() if file.is_file() else []
    except OSError:
        return 0
    return max((_position(line) for line in lines if any(f'"{name}"'.encode() in line for name in _POSITION_FIELDS)), default=0)


def _position(line: bytes) -> int:
    try:
        fields: Any = json.loads(line)
    except ValueError:
        return 0
    values: Collection[Any] = [fields.get(name) for name in _POSITION_FIELDS] if isinstance(fields, dict) else []
    return max((value for value in values if isinstance(value, int)), default=0)
