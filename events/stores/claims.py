"""Claims: which of several processes works on what, by locks that end with their process.

Guarantees: a claim is held by one process at a time, and falls when that process ends, however it ends.
Not responsible for: truth. A claim saves work; that nothing is recorded twice is due to versions and keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from events.facts.errors import BadInput, LogUnreachable
from events.stores.raw import Store
from events.stores.sqlite import SqliteLog

if TYPE_CHECKING:
    import psycopg

    from events.stores.postgres_location import PostgresLocation

CLAIMS_FILE = "claims.lock"
"""File beside a log in SQLite of which each claim locks one byte."""


class Claims(Protocol):
    """Claims of one process."""

    def take(self, *names: str) -> str | None:
        """Claim the first of these names that nobody has claimed, this process included; None if there is none."""
        ...

    def release(self, name: str) -> None:
        """Give a claim back."""
        ...

    def close(self) -> None:
        """Give all claims back."""
        ...


def open_claims(log: Store) -> Claims:
    """Claims on parts of the run of a log: locks of its PostgreSQL server, or of a file beside its SQLite file."""
    if isinstance(log, SqliteLog):
        return FileClaims(log.path.with_name(CLAIMS_FILE))
    from events.stores.postgres import PostgresLog

    if isinstance(log, PostgresLog):
        return PostgresClaims(log.location)
    raise BadInput("A log in memory has one player; keep the log in a file or in PostgreSQL.")


def lock_number(name: str) -> int:
    """The number that stands for a claim: the first 62 bits of the SHA-256 of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2


class FileClaims:
    """Locks of single bytes of a file, for processes that share it (a network file system must support POSIX locks)."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._held: set[str] = set()

    def take(self, *names: str) -> str | None:
        """See `Claims.take`."""
        for name in names:
            # The kernel would let this process lock its own byte again.
            if name in self._held:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, lock_number(name))
            except OSError:
                continue
            self._held.add(name)
            return name
        return None

    def release(self, name: str) -> None:
        """See `Claims.release`."""
        if name in self._held:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, lock_number(name))
            self._held.remove(name)

    def close(self) -> None:
        """See `Claims.close`."""
        os.close(self._file)


class PostgresClaims:
    """Advisory locks of a session, which fall when its connection does."""

    def __init__(self, location: PostgresLocation) -> None:
        self._location = location
        self._db: psycopg.Connection = location.connect()
        self._held: dict[int, str] = {}

    def take(self, *names: str) -> str | None:
        """See `Claims.take`. None also while the server cannot be reached."""
        import psycopg

        numbers = {lock_number(f"{self._location.run}/{name}"): name for name in names}
        free = [number for number in numbers if number not in self._held]
        try:
            if self._db.closed:
                self._db = self._location.connect()
            query = "SELECT number FROM unnest(%s::bigint[]) AS asked (number) WHERE pg_try_advisory_lock(number) LIMIT 1"
            row = self._db.execute(query, (free,)).fetchone() if free else None
        except (psycopg.OperationalError, LogUnreachable):
            # Its locks fell with the connection.
            self._db.close()
            self._held.clear()
            return None
        if row is None:
            return None
        self._held[row[0]] = numbers[row[0]]
        return numbers[row[0]]

    def release(self, name: str) -> None:
        """See `Claims.release`."""
        import psycopg

        number = lock_number(f"{self._location.run}/{name}")
        if self._held.pop(number, None) is not None:
            try:
                self._db.execute("SELECT pg_advisory_unlock(%s)", (number,))
            except psycopg.OperationalError:
                self._db.close()
                self._held.clear()

    def close(self) -> None:
        """See `Claims.close`."""
        self._db.close()
