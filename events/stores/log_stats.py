"""Counts of a stored log: the tally of its tip, and the database's figures on blobs and bytes.

No event is opened, so that it takes the same time for a log of any length; a log of a schema without a tally is counted row by
row. Not responsible for: soundness (`verify`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from events.facts.log import Head
from events.stores.paging import Fetch
from events.stores.rows import Row
from events.stores.tally import Tally


class BlobStats(NamedTuple):
    """Counts of blobs."""

    number: int
    content: int
    """Bytes before compression."""
    stored: int
    """Bytes after compression."""


class LogStats(NamedTuple):
    """Counts of a log."""

    tip: Head
    """The end of the log."""
    tally: Tally
    """Counts of its events."""
    blobs: BlobStats
    size: int
    """Bytes that it takes in its store."""


def log_stats(tip: Head, tally: str | None, rows: Iterable[Row], fetch: Fetch, size: str) -> LogStats:
    """The counts of a log.

    Args:
        tip: the end of the log.
        tally: the stored tally, if the schema has one.
        rows: all rows up to the tip, read only without a tally.
        fetch: runs a query.
        size: query for the bytes that the log takes.
    """
    counts = Tally.parse(tally) or Tally().add(rows)
    blobs = fetch("SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(content)), 0) FROM blobs", ())
    return LogStats(tip, counts, BlobStats(*map(int, blobs[0])), int(fetch(size, ())[0][0]))
