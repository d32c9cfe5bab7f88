"""The rows of a table on their way into files, with progress on stderr.

Law: it changes no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from events.cli.output import progress
from events.export.table_rows import TABLES
from events.facts.log import Log


def table_rows(table: str, log: Log, run: str, until: int) -> Iterator[dict[str, Any]]:
    """The rows of a table by column, from events up to a position."""
    with progress(f"exporting {table}") as say:
        for row in TABLES[table].rows(log, run, until):
            say(row.position, until)
            yield row.columns()


def written_sentence(counts: dict[str, int], place: object) -> str:
    """What was written, in words."""
    return f"{', '.join(f'{count} {table}' for table, count in counts.items())} into {place}"
