"""Counts of a log, kept in the row of its tip, so that nobody has to count a million events.

Guarantees: they follow from the rows alone, and are written in the transaction of an append; `verify` counts again. They are in
no hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from events.facts.errors import LogCorrupt
from events.facts.log import Corruption, Head
from events.stores.rows import Row

TALLY_SINCE = 3
"""Schema that brought tallies."""
KINDS_WITH_COMPLETIONS = ("question_proposed", "attempts_made")
"""Kinds of events that hold completions."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass
class Tally:
    """Counts of a log."""

    kinds: dict[str, int] = field(default_factory=dict)
    """Events by kind."""
    streams: dict[str, int] = field(default_factory=dict)
    """Streams by the first part of their names."""
    rollouts: int = 0
    """Completions."""
    tokens: int = 0
    """Tokens of all completions."""

    def add(self, rows: Iterable[Row]) -> Tally:
        """Count these rows as well."""
        for row in rows:
            self.kinds[row.kind] = self.kinds.get(row.kind, 0) + 1
            if row.version == 1:
                first = row.stream.partition("/")[0]
                self.streams[first] = self.streams.get(first, 0) + 1
            if row.kind in KINDS_WITH_COMPLETIONS:
                # As stored, not upcast: a new schema of these kinds must be handled here.
                generation = json.loads(row.data)["generation"]
                self.rollouts += generation["count"]
                self.tokens += generation["length"]
        return self

    def along(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows; each is counted when the next is requested."""
        for row in rows:
            yield row
            self.add((row,))

    def broken(self, tip: Head, stored: str | None) -> Corruption | None:
        """The difference between the stored tally and these counts; None if there is none."""
        if stored in (None, self.text()):
            return None
        return Corruption(tip.position, "the tally is not that of the events up to here; it was changed from outside")

    def text(self) -> str:
        """The counts as stored."""
        return _ENCODE(vars(self))

    @classmethod
    def parse(cls, stored: str | None) -> Tally | None:
        """Stored counts; None if there are none.

        Raises:
            LogCorrupt: they cannot be read.
        """
        if stored is None:
            return None
        try:
            return cls(**json.loads(stored))
        except (ValueError, TypeError) as error:
            raise LogCorrupt("The log's tally cannot be read; it was changed from outside, restore a backup.") from error
