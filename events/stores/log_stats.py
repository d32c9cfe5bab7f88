"""Counts of a stored log: the tally of its tip, and the database's figures on blobs and bytes.

No event is opened, so that it takes the same time for a log of any length; a log of a schema without a tally is counted row by
row. Not responsible for: soundness (`verify`).
"""

from __future__ import annotations

from typing import NamedTuple

from events.facts.log import Head
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
    tally: Tally
    blobs: BlobStats
    size: int
    """Bytes that it takes in its store."""
