"""Makes a log's index and keeps it up to date.

It is two consumers of the log (`events.facts.consumers`), one for signs of reward hacking and one for all else, so rows and
checkpoint are written together, whatever crashes, however many processes index at once. Unlike other consumers it starts anew
where its rows come from another log: an index is a cache.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from events.facts.consumers import Consumer
from events.facts.errors import LogCorrupt, LogError
from events.facts.log import ProgressCallback, ReadableLog, event_at, ignore_progress
from events.index.entries import FactIndexer
from events.index.reader import Index
from events.index.rows import SIGN_KINDS
from events.index.schema import create_tables, open_for_writing
from events.index.signs import SignIndexer
from events.index.texts import TextCache


class Indexer:
    """Writes the index of a log."""

    index: Index
    """Reads the index, also while it is written."""

    def __init__(self, log: ReadableLog, path: Path) -> None:
        """Open the index in a file, which is created, or emptied if it has another schema.

        Raises:
            LogError: it cannot be written.
        """
        self._log = log
        self._path = path
        self._lock = threading.Lock()
        self._db = open_for_writing(path)
        texts = TextCache(log)
        self._rows = Consumer(log, "index", self._db, write_batch=FactIndexer(texts).write)
        self._signs = Consumer(log, "signs", self._db, SignIndexer(texts).write, kinds=SIGN_KINDS, behind="index")
        self.index = Index(log, path)

    def catch_up(self, on_progress: ProgressCallback = ignore_progress, stop: Callable[[], bool] = lambda: False) -> None:
        """Index what there is, or until `stop()` is true; all but signs of reward hacking.

        Raises:
            LogError: the log cannot be read, or the index not written.
        """
        self._catch_up(self._rows, on_progress, stop)

    def catch_up_signs(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Index signs of reward hacking in what is indexed otherwise, or until `stop()` is true; see `catch_up`."""
        self._catch_up(self._signs, ignore_progress, stop)

    def _catch_up(
        self, consumer: Consumer[sqlite3.Connection], on_progress: ProgressCallback, stop: Callable[[], bool]
    ) -> None:
        with self._lock:
            try:
                try:
                    consumer.catch_up(stop, on_progress)
                except LogCorrupt:
                    # The index is right, so the log itself is damaged.
                    if self._belongs_to_log():
                        raise
                    create_tables(self._db, anew=True)
                    consumer.catch_up(stop, on_progress)
            except sqlite3.DatabaseError as error:
                if type(error) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                    raise
                message = f"The index {self._path} cannot be written ({error})"
                raise LogError(f"{message}; free some disk, or delete it to have it made anew.") from error

    def _belongs_to_log(self) -> bool:
        """Whether the index is one of this log."""
        checkpoint = self._rows.checkpoint
        last = event_at(self._log, checkpoint.position)
        return checkpoint.position == 0 or (last is not None and last.head == checkpoint.digest)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self.index.close()
            self._db.close()
