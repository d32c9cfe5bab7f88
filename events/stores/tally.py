"""How much a log holds, kept in the row of its tip, so that nobody has to count a million events.

Law: it follows from the rows alone, is written in the transaction of its append, and `verify` counts again. It is in no hash.
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
"""Kinds of events that hold what a model wrote."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass
class Tally:
    """The counts of a log."""

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
                # As it was stored, not upcast: another shape of these kinds must be heeded here.
                generation = json.loads(row.data)["generation"]
                self.rollouts += generation["count"]
                self.tokens += generation["length"]
        return self

    def along(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, each of them counted when the next is asked for."""
        for row in rows:
            yield row
            self.add((row,))

    def broken(self, tip: Head, stored: str | None) -> Corruption | None:
        """What is wrong with the stored tally of a log that holds what was counted here."""
        if stored in (None, self.text()):
            return None
        return Corruption(tip.position, "the tally is not that of the events up to here; it was changed from outside")

    def text(self) -> str:
        """The counts as they are stored."""
        return _ENCODE(vars(self))

    @classmethod
    def parse(cls, stored: str | None) -> Tally | None:
        """The counts that were stored; None where none are.

        Raises:
            LogCorrupt: they were changed from outside.
        """
        if stored is None:
            return None
        try:
            return cls(**json.loads(stored))
        except (ValueError, TypeError) as error:
            raise LogCorrupt("The log's tally cannot be read; it was changed from outside, restore a backup.") from error
