"""A folder that is a Hugging Face dataset: `data/*.parquet`, a configuration for each table, and a card as `README.md`.

Tables and columns are those of `events.export.tables`, but prompts and completions are conversations of one message, as TRL
takes them. Tables without rows are left out, because no dataset can be empty. Nothing is uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from events.export import atomic_folder
from events.export.arrow import schema
from events.export.dataset_card import card
from events.export.parquet import write_table
from events.export.table_rows import TABLES, table_rows, written_sentence
from events.stores.raw import Store

CONVERSATIONS: Final = {"prompt": "user", "completion": "assistant"}
"""Columns that are conversations of one message, and the role of the message."""
_CONVERSATION = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))


def write(log: Store, out: Path, *, name: str) -> str:
    """See `events.export.Exporter`."""
    head = log.head()
    written: dict[str, pa.Schema] = {}
    counts: dict[str, int] = {}
    with atomic_folder(out) as folder:
        (folder / "data").mkdir()
        for table in TABLES:
            path, plain = folder / "data" / f"{table}.parquet", schema(table, log, head.position)
            columns = pa.schema([field.with_type(_CONVERSATION) if field.name in CONVERSATIONS else field for field in plain])
            counts[table] = write_table(path, _conversations(table_rows(table, log, name, head.position)), columns)
            if counts[table]:
                written[table] = columns
            else:
                path.unlink()
        (folder / "README.md").write_text(card(log, head, name=name, tables=written), encoding="utf-8")
    return written_sentence(counts, out)


def _conversations(plain: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in plain:
        messages = {name: [{"role": role, "content": row[name]}] for name, role in CONVERSATIONS.items() if name in row}
        yield row | messages
