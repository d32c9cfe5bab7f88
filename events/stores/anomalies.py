"""What is odd about a stored log though all its hashes are right."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_TOLD = ("run.log", "trainer.log")
"""Files of a run that tell of positions ..."""
_NAMES = ("position", "until")
"""... under these names."""


def unreferenced_blobs(stored: int, named: int) -> Iterator[str]:
    """Tell of blobs that no event names."""
    if stored > named:
        blobs = "1 blob is" if stored - named == 1 else f"{stored - named} blobs are"
        yield f"{blobs} named by no event: added from outside, or left by an append that was cut short; they change nothing"


def missing_triggers(wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """Tell of triggers that are missing or changed, by name and text."""
    names = [name for name, text in wanted.items() if " ".join(found.get(name, "").split()) != " ".join(text.split())]
    if names:
        what = f"trigger {names[0]} is" if len(names) == 1 else f"triggers {', '.join(names)} are"
        yield f"the {what} missing or changed, so SQL can change the log; migrate copies it into a new one that has them"


def missing_wal(path: Path) -> str | None:
    """Why the log's write-ahead file must have been lost; None where nothing says so. Ask before the log is opened."""
    beside = {end: path.with_name(f"{path.name}{end}").exists() for end in ("-wal", "-shm")}
    if beside["-shm"] and not beside["-wal"]:
        return f"{path.name}-shm is there without {path.name}-wal, which held what was appended last"
    return None


def lost_tail(path: Path, end: int) -> str | None:
    """Which file beside a log that ends at a position tells of a later one; None where none does."""
    told = {path.with_name("index.sqlite").name: _indexed(path.with_name("index.sqlite"))}
    told |= {name: _logged(path.with_name(name)) for name in _TOLD}
    name, position = max(told.items(), key=lambda found: found[1])
    if position <= end:
        return None
    return f"{name} tells of position {position}, and the log ends at {end}; unless it was restored, its end was lost"


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
    return max((_position(line) for line in lines if any(f'"{name}"'.encode() in line for name in _NAMES)), default=0)


def _position(line: bytes) -> int:
    try:
        fields: Any = json.loads(line)
    except ValueError:
        return 0
    found: Collection[Any] = [fields.get(name) for name in _NAMES] if isinstance(fields, dict) else []
    return max((value for value in found if isinstance(value, int)), default=0)
