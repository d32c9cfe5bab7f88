"""Reads events from a database page by page, so that no reader holds a transaction or a whole log in memory.

Law: a page starts behind the last row of the one before, found by index, so that reading all costs the same per event at the
end as at the beginning. Works for every database that can be asked in SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from events.stores.rows import Row

PAGE_SIZE = 500
"""Events fetched at once."""
COLUMNS = ", ".join(Row._fields)
"""Columns of a row, in its order."""

Fetch = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a query and returns all it finds."""


def read_pages(
    fetch: Fetch,
    stream: str | None = None,
    *,
    after: int,
    until: int,
    kinds: Collection[str] | None = None,
    limit: int | None = None,
) -> Iterator[Row]:
    """The rows after one position and until another; of one stream and of some kinds if asked.

    Args:
        fetch: asks the database.
        stream: of this stream only.
        after: rows behind this position.
        until: rows up to this position.
        kinds: of these kinds only.
        limit: so many at most.
    """
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
        place = [after, until] if stream is None else [stream, version, after, until]
        found = fetch(query, [*place, *(kinds or ()), size])
        yield from map(Row._make, found)
        if len(found) < size:
            return
        last = Row._make(found[-1])
        after, version = last.position, last.version
        limit = None if limit is None else limit - size
