"""How much is in a stored log: counted by the database itself, so that a million events take about a second.

Law: every figure is of what stands up to one position, blobs and bytes apart, and none of them opens an event. It does not
say whether any of it is sound: see `verify`.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from events.stores.paging import CHUNK, Fetch


class Dialect(NamedTuple):
    """Where databases speak differently."""

    mark: str
    """What stands for a parameter."""
    number: str
    """A number of an event's generation, by its name."""
    size: str
    """Asks for the bytes that the log takes."""


SQLITE = Dialect(
    mark="?",
    number="json_extract(data, '$.generation.{}')",
    size="SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
)
POSTGRES = Dialect(
    mark="%s",
    number="(data::json -> 'generation' ->> '{}')::bigint",
    size="""
        SELECT sum(pg_total_relation_size(pg_class.oid)) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
        WHERE nspname = current_schema() AND relkind = 'r'""",
)


class Blobs(NamedTuple):
    """The blobs of a log."""

    number: int
    content: int
    """Their bytes."""
    stored: int
    """Their bytes, compressed."""


class Generated(NamedTuple):
    """What models wrote."""

    rollouts: int
    """Completions."""
    tokens: int
    """Tokens of all completions."""


class Figures:
    """The figures of a log; each one is asked for when it is wanted."""

    def __init__(self, fetch: Fetch, dialect: Dialect, until: int) -> None:
        """Ask nothing yet.

        Args:
            fetch: asks the database.
            dialect: how to.
            until: events up to this position.
        """
        self._fetch = fetch
        self._dialect = dialect
        self._until = until

    def kinds(self) -> dict[str, int]:
        """Events of each kind, the most frequent first."""
        query = f"SELECT kind, count(*) FROM events WHERE position <= {self._dialect.mark} GROUP BY kind"  # noqa: S608
        return dict(sorted(self._fetch(query, (self._until,)), key=lambda found: (-found[1], found[0])))

    def streams(self) -> dict[str, int]:
        """Streams by the first part of their names."""
        # Jumps from stream to stream in the index; counting distinct ones reads all of it.
        query = f"""
            WITH RECURSIVE found (stream) AS (
              SELECT min(stream) FROM events WHERE stream > {self._dialect.mark}
              UNION ALL SELECT (SELECT min(stream) FROM events WHERE events.stream > found.stream) FROM found
              WHERE found.stream IS NOT NULL)
            SELECT stream FROM found WHERE stream IS NOT NULL LIMIT {CHUNK}"""  # noqa: S608  # constants only
        counted, last = Counter[str](), ""
        while page := [str(stream) for (stream,) in self._fetch(query, (last,))]:
            counted.update(stream.partition("/")[0] for stream in page)
            last = page[-1]
        return dict(counted.most_common())

    def generated(self) -> Generated:
        """Completions and their tokens."""
        number = self._dialect.number
        query = f"""
            SELECT coalesce(sum({number.format("count")}), 0), coalesce(sum({number.format("length")}), 0) FROM events
            WHERE kind IN ('question_proposed', 'attempts_made') AND position <= {self._dialect.mark}"""  # noqa: S608
        return Generated(*map(int, self._fetch(query, (self._until,))[0]))

    def blobs(self) -> Blobs:
        """How many blobs there are, and how large they are."""
        query = "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(content)), 0) FROM blobs"
        return Blobs(*map(int, self._fetch(query, ())[0]))

    def size(self) -> int:
        """Bytes that the log takes in its store."""
        return int(self._fetch(self._dialect.size, ())[0][0])
