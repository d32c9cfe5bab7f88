"""Rows, keys and blobs as stored: what maintenance copies, compares and checks.

Guarantees: it only reads, page by page, and gives rows as they are stored, sound or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from events.facts.log import Head, Log
from events.facts.values import BlobHash
from events.stores.log_stats import LogStats
from events.stores.paging import COLUMNS, PAGE_SIZE, Fetch, read_pages
from events.stores.rows import Row, StreamEnd
from events.stores.staging import PackedBlob, unpack_blob
from events.stores.transaction import Key


class RawLog:
    """A log as stored, without validation."""

    def __init__(self, fetch: Fetch, *, has_keys: bool = True) -> None:
        """Read nothing yet; `has_keys` tells whether the log's schema has keys."""
        self._fetch = fetch
        self._has_keys = has_keys

    def rows(self, *, until: int, after: int = 0) -> Iterator[Row]:
        """Rows in order of position."""
        return read_pages(self._fetch, after=after, until=until)

    def row(self, position: int) -> Row | None:
        """The row at a position."""
        rows = self._fetch(f"SELECT {COLUMNS} FROM events WHERE position = ?", (position,))  # noqa: S608
        return Row._make(rows[0]) if rows else None

    def position_before_last(
        self, count: int, stream: str | None = None, *, until: int, kinds: Collection[str] | None = None
    ) -> int:
        """The position before the last `count` events up to `until`; of one stream and of some kinds if asked."""
        # The unary plus keeps planners on the index of the stream.
        bounds, values = [f"{'' if stream is None else '+'}position <= ?"], [until, *(kinds or ())]
        if kinds:
            bounds.append(f"kind IN ({', '.join('?' * len(kinds))})")
        if stream is not None:
            bounds.append("stream = ?")
            values.append(stream)
        order = "position" if stream is None else "version"
        query = f"""
            SELECT position FROM events WHERE {" AND ".join(bounds)}
            ORDER BY {order} DESC LIMIT 1 OFFSET ?"""  # noqa: S608  # constants only
        rows = self._fetch(query, [*values, count - 1]) if count else [(until + 1,)]
        return int(rows[0][0]) - 1 if rows else 0

    def ends(self) -> dict[str, StreamEnd]:
        """The end of every stream."""
        query = """
            SELECT events.stream, events.version, events.hash FROM events
            JOIN (SELECT stream, max(version) AS version FROM events GROUP BY stream) AS last
            ON events.stream = last.stream AND events.version = last.version"""
        return {stream: StreamEnd(version, hash_) for stream, version, hash_ in self._fetch(query, ())}

    def hash_at(self, stream: str, version: int) -> str | None:
        """Hash of the event of a stream's version; None if there is none."""
        query = "SELECT hash FROM events WHERE stream = ? AND version = ?"
        rows = self._fetch(query, (stream, version))
        return str(rows[0][0]) if rows else None

    def all_keys(self) -> Iterator[Key]:
        """All keys, by stream and key."""
        query = f"""
            SELECT stream, key, version, size FROM keys WHERE (stream, key) > (?, ?)
            ORDER BY stream, key LIMIT {PAGE_SIZE}"""  # noqa: S608  # constants only
        last = "", ""
        while self._has_keys and (rows := self._fetch(query, last)):
            for key in map(Key._make, rows):
                last = key.stream, key.key
                yield key

    def packed(self, blob: BlobHash) -> PackedBlob:
        """A blob as it is stored.

        Raises:
            LogCorrupt: it is missing or does not match its hash.
        """
        rows = self._fetch("SELECT hash, size, content FROM blobs WHERE hash = ?", (blob,))
        unpack_blob(blob, rows[0][2] if rows else None)
        return PackedBlob._make(rows[0])


class Store(Log, Protocol):
    """A log that maintenance can copy from and to."""

    def raw(self) -> RawLog:
        """The log as stored."""

    def stats(self) -> LogStats:
        """Counts of events, blobs and bytes."""

    def append_rows(self, tip: Head, rows: Sequence[Row], blobs: Sequence[PackedBlob]) -> None:
        """Append rows that are hashed already, in one transaction.

        Args:
            tip: where the log must end for the rows to follow.
            rows: in order of position.
            blobs: those that the rows name; the ones that are there already are left out.

        Raises:
            Conflict: the log ends elsewhere.
        """

    def append_keys(self, keys: Sequence[Key]) -> None:
        """Append those keys that are not there yet."""
