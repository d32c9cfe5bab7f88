"""How much is in a stored log, whatever its length: the tally of its tip, and what the database says of blobs and bytes.

Law: no event is opened. A log of a schema without a tally is counted row by row. It does not say whether any of it is sound:
see `verify`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from events.facts.log import Head
from events.stores.paging import Fetch
from events.stores.rows import Row
from events.stores.tally import Tally


class BlobStats(NamedTuple):
    """The blobs of a log."""

    number: int
    content: int
    """Their bytes."""
    stored: int
    """Their bytes, compressed."""


class LogStats(NamedTuple):
    """How much is in a log."""

    tip: Head
    """Where it ends."""
    tally: Tally
    """Its counts up to there."""
    blobs: BlobStats
    size: int
    """Bytes that it takes in its store."""


def log_stats(tip: Head, tally: str | None, rows: Iterable[Row], fetch: Fetch, size: str) -> LogStats:
    """The figures of a log.

    Args:
        tip: where it ends.
        tally: its tally as stored.
        rows: its rows up to there.
        fetch: asks the database.
        size: asks for the bytes that the log takes.
    """
    counts = Tally.parse(tally) or Tally().add(rows)
    blobs = fetch("SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(content)), 0) FROM blobs", ())
    return LogStats(tip, counts, BlobStats(*map(int, blobs[0])), int(fetch(size, ())[0][0]))
