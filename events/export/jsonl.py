"""Tables as JSON lines: `attempts.jsonl`, `questions.jsonl`, `texts.jsonl`, `updates.jsonl`, `gaps.jsonl`.

Guarantees: a row is one line in ASCII, so that no text can end a line early or control a terminal; numbers that are not finite
are null; memory holds one row.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from events.export import atomic_folder
from events.export.table_rows import TABLES, table_rows, written_sentence
from events.stores.raw import Store


def write(log: Store, out: Path, *, name: str) -> str:
    """See `events.export.Exporter`."""
    until = log.head().position
    counts = dict.fromkeys(TABLES, 0)
    with atomic_folder(out) as folder:
        for table in TABLES:
            with (folder / f"{table}.jsonl").open("w", encoding="ascii") as file:
                for row in table_rows(table, log, name, until):
                    file.write(line(row))
                    counts[table] += 1
    return written_sentence(counts, out)


def line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return f"{json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False)}\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return list(map(_plain, value.tolist()))
    return value
