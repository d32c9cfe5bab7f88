"""Reads a log's file wherever it lies: in a writable folder, on a read-only file system, or in another user's folder.

SQLite keeps two files beside a log in WAL mode, and makes them even to read. Where it may not, there are two cases:
- The write-ahead file is empty or missing: the log is opened as immutable, and reopened when it or its write-ahead file
  changes, because then somebody writes it from elsewhere.
- The write-ahead file holds something: both files are copied into a temporary folder and read there.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from events.facts.errors import LogError
from events.stores.sqlite_errors import translate_errors
from events.stores.sqlite_file import connect

T = TypeVar("T")

PENDING_SUFFIXES = ("-wal", "-journal")
"""Suffixes of files beside a log that hold what is not in it yet."""
_UNWRITABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_TRIES = 5
"""Attempts at a query whose file changes meanwhile."""


class SqliteReader:
    """A connection for reading; threads that share it take turns."""

    def __init__(self, path: Path, *, damaged: bool = False, read_only: bool = False) -> None:
        """Open a log's file; see `events.stores.sqlite_file.connect`.

        Raises:
            LogError: it cannot be read.
        """
        self._path = path
        self._damaged = damaged
        self._read_only = read_only
        self._copy: TemporaryDirectory[str] | None = None
        self._state: tuple[tuple[int, ...], ...] = ()
        self.lock = threading.RLock()
        self.immutable = False
        """Whether the file is opened as immutable."""
        with translate_errors(path):
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        self.immutable = False
        self._state = file_state(self._path)
        try:
            return _probed(connect(self._path, damaged=self._damaged, read_only=self._read_only))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _UNWRITABLE or os.access(self._path.parent, os.W_OK):
                raise
        if any(size for _, _, size in self._state[1:]):
            return _probed(connect(self._make_copy(), read_only=True))
        self.immutable = True
        return _probed(connect(self._path, read_only=True, immutable=True))

    def _make_copy(self) -> Path:
        """A copy of the log and its write-ahead file, which `close` removes.

        Raises:
            LogError: there is no room for it.
        """
        try:
            if self._copy is None:
                self._copy = TemporaryDirectory(prefix="gasp-log-")
            copy = Path(self._copy.name) / self._path.name
            for name in (self._path.name, *(f"{self._path.name}{suffix}" for suffix in PENDING_SUFFIXES)):
                if self._path.with_name(name).is_file():
                    shutil.copyfile(self._path.with_name(name), copy.with_name(name))
        except OSError as error:
            self._forget_copy()
            message = f"The log {self._path} is in a read-only folder, has a write-ahead file that must be read in a copy"
            message = f"{message}, and no copy can be made ({error.strerror})"
            raise LogError(f"{message}; set TMPDIR to a folder with room for both, or copy them yourself.") from error
        return copy

    def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the connection.

        Raises:
            LogError: the log cannot be read.
        """
        with self.lock, translate_errors(self._path):
            for _ in range(_TRIES):
                if self.immutable and file_state(self._path) != self._state:
                    self._db.close()
                    self._db = self._open()
                try:
                    return query(self._db)
                # An immutable file is read without locks: what was read while somebody wrote it may be nonsense.
                except sqlite3.Error:
                    if not self.immutable or file_state(self._path) == self._state:
                        raise
            return query(self._db)

    def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        return self.ask(lambda db: db.execute(query, values).fetchall())

    def new_connection(self) -> sqlite3.Connection:
        """One more connection of the same kind."""
        if self._copy is not None:
            return connect(Path(self._copy.name) / self._path.name, read_only=True)
        return connect(self._path, damaged=self._damaged, read_only=self._read_only, immutable=self.immutable)

    def close(self) -> None:
        """Release the file."""
        with self.lock:
            self._db.close()
            self._forget_copy()

    def _forget_copy(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None


def file_state(path: Path) -> tuple[tuple[int, ...], ...]:
    """Changes when somebody writes a log: inode, time and size of the file and of those beside it."""
    return tuple(_stat(path.with_name(f"{path.name}{suffix}")) for suffix in ("", *PENDING_SUFFIXES))


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _probed(db: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, once it can read."""
    try:
        # SQLite opens a file only when it reads it.
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db
