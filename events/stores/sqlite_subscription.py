"""Subscription to appends in SQLite by polling its data version, which costs a few microseconds.

For a file that SQLite can only open as immutable, size and time are polled instead. It takes no lock.
"""

from __future__ import annotations

import time
from pathlib import Path

from events.stores.sqlite_errors import translate_errors
from events.stores.sqlite_reader import SqliteReader, file_state

POLL_INTERVAL_S = 0.02
"""Seconds between polls."""


class SqliteSubscription:
    """A `Subscription` to a log in a file."""

    def __init__(self, path: Path, reader: SqliteReader) -> None:
        """Subscribe from now on. The log's reader knows how its file can be opened."""
        self._path = path
        with translate_errors(path):
            self._db = None if reader.immutable else reader.new_connection()
            self._seen = self._version()

    def _version(self) -> object:
        if self._db is None:
            return file_state(self._path)
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def wait(self, seconds: float) -> bool:
        """See `events.facts.log.Subscription.wait`."""
        until = time.monotonic() + seconds
        with translate_errors(self._path):
            while (version := self._version()) == self._seen:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(POLL_INTERVAL_S, left))
        self._seen = version
        return True

    def close(self) -> None:
        """See `events.facts.log.Subscription.close`."""
        if self._db is not None:
            self._db.close()
