"""Rows of a table for exporters that write files, with progress on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from events.cli.output import progress
from events.export.table_rows import TABLES
from events.facts.log import Log


def table_rows(table: str, log: Log, run: str, until: int) -> Iterator[dict[str, Any]]:
    """Rows of a table, each a dictionary by column, from events up to position `until`."""
    with progress(f"exporting {table}") as say:
        for row in TABLES[table].rows(log, run, until):
            say(row.position, until)
            yield row.columns()


def written_sentence(counts: dict[str, int], place: object) -> str:
    """Counts of rows by table, as a phrase."""
    return f"{', '.join(f'{count} {table}' for table, count in counts.items())} into {place}"
