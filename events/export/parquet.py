"""Tables as Parquet: `attempts.parquet`, `questions.parquet`, `updates.parquet`, `gaps.parquet`.

Row groups are of bounded size, and memory holds one. `events.export.tables` explains the columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from events.export import atomic_folder
from events.export.arrow import batches, schema
from events.export.table_rows import TABLES, table_rows, written_sentence
from events.stores.raw import Store


def write(log: Store, out: Path, *, name: str) -> str:
    """See `events.export.Exporter`."""
    until = log.head().position
    with atomic_folder(out) as folder:
        counts = {
            table: write_table(folder / f"{table}.parquet", table_rows(table, log, name, until), schema(table, log, until))
            for table in TABLES
        }
    return written_sentence(counts, out)


def write_table(path: Path, rows: Iterable[dict[str, Any]], columns: pa.Schema) -> int:
    """Write rows, each a dictionary by column, and return how many there were."""
    count = 0
    with ParquetWriter(path, columns, compression="zstd") as writer:
        for batch in batches(rows, columns):
            writer.write_batch(batch)
            count += batch.num_rows
    return count
