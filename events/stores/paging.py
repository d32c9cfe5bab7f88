"""Reads rows from a SQL database page by page, so that no reader holds a transaction or a whole log in memory.

A page starts behind the last row of the one before, found by index, so that an event at the end costs as much as one at the
beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from events.stores.rows import Row

PAGE_SIZE = 500
"""Rows of a page."""
COLUMNS = ", ".join(Row._fields)
"""Columns of the table, in the order of `Row`."""

Fetch = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a query, whose parameters are marked with `?`, and returns all rows."""


def read_pages(
    fetch: Fetch,
    stream: str | None = None,
    *,
    after: int,
    until: int,
    kinds: Collection[str] | None = None,
    limit: int | None = None,
) -> Iterator[Row]:
    """Rows of positions `after` < p <= `until`, of one stream and of some kinds if asked, `limit` at most."""
    if kinds is not None and not kinds:
        return
    # The unary plus keeps planners on the index of the stream.
    bounds = "position > ? AND position <= ?"
    if stream is not None:
        bounds = "stream = ? AND version > ? AND +position > ? AND +position <= ?"
    if kinds is not None:
        bounds += f" AND kind IN ({', '.join('?' * len(kinds))})"
    order = "position" if stream is None else "version"
    query = f"SELECT {COLUMNS} FROM events WHERE {bounds} ORDER BY {order} LIMIT ?"  # noqa: S608  # constants only
    version = 0
    while limit is None or limit > 0:
        size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit)
        bound = [after, until] if stream is None else [stream, version, after, until]
        rows = fetch(query, [*bound, *(kinds or ()), size])
        yield from map(Row._make, rows)
        if len(rows) < size:
            return
        last = Row._make(rows[-1])
        after, version = last.position, last.version
        limit = None if limit is None else limit - size
