"""Tables in Arrow: the schema that follows from a row's class, and its rows in batches of bounded size.

Law: memory holds one batch, however many rows there are. Texts, numbers and arrays arrive bit for bit. It writes no file.
"""

from __future__ import annotations

import builtins
import types
import typing
from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Any, get_args, get_origin

import numpy as np
import pyarrow as pa

from events.export.table_rows import TABLES, updates
from events.facts.log import Log
from events.facts.values import IOPair

BATCH_ROWS = 10_000
"""Most rows of a batch."""
BATCH_BYTES = 16_000_000
"""Bytes of texts and arrays at which a batch is full, about."""

_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    np.int32: pa.int32(),
    np.float32: pa.float32(),
    IOPair: pa.struct([pa.field(name, pa.string()) for name in IOPair.model_fields]),
}


def schema(table: str, log: Log, until: int) -> pa.Schema:
    """The columns of a table; those of the updates' metrics are what the log has up to a position."""
    fields: list[pa.Field[Any]] = []
    for name, info in TABLES[table].row.model_fields.items():
        if name == "metrics":
            found = dict.fromkeys(metric for update in updates(log, "", until) for metric in update.metrics)
            fields += [pa.field(metric, pa.float64()) for metric in found]
        else:
            fields.append(pa.field(name, _type(info.annotation)))
    return pa.schema(fields)


def _type(annotation: Any) -> pa.DataType:
    if annotation in _TYPES:
        return _TYPES[annotation]
    inside = get_args(annotation)
    match get_origin(annotation):
        case types.UnionType | typing.Union:
            (found,) = {_type(option) for option in inside if option is not NoneType}
            return found
        case typing.Literal:
            return pa.string()
        case builtins.tuple:
            return pa.list_(_type(inside[0]))
        case np.ndarray:
            return pa.list_(_type(get_args(inside[1])[0]))
        case _:
            return _type(annotation.__supertype__)


def batches(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows, given by column, in batches."""
    held: list[dict[str, Any]] = []
    load = 0
    for row in rows:
        held.append(row)
        load += sum(map(_size, row.values()))
        if len(held) >= BATCH_ROWS or load >= BATCH_BYTES:
            yield _batch(held, schema)
            held, load = [], 0
    if held:
        yield _batch(held, schema)


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value)
        case np.ndarray():
            return value.nbytes
        case list():
            return sum(len(text) for one in value for text in one.values())
        case _:
            return 8


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    # Only updates lack columns: a phase that took no step has no metrics.
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
