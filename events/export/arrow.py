"""Tables in Arrow: the schema of a row's class, and its rows in batches of bounded size, of which memory holds one."""

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
"""Rows of a batch, at most."""
BATCH_BYTES = 16_000_000
"""Bytes of texts and arrays from which on a batch is full."""

_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    np.int32: pa.int32(),
    np.float32: pa.float32(),
    np.bool_: pa.bool_(),
    IOPair: pa.struct([pa.field(name, pa.string()) for name in IOPair.model_fields]),
}


def schema(table: str, log: Log, until: int) -> pa.Schema:
    """Columns of a table; those of metrics are the metrics of updates up to position `until`."""
    fields: list[pa.Field[Any]] = []
    for name, info in TABLES[table].row.model_fields.items():
        if name == "metrics":
            metrics = dict.fromkeys(metric for update in updates(log, "", until) for metric in update.metrics)
            fields += [pa.field(metric, pa.float64()) for metric in metrics]
        else:
            fields.append(pa.field(name, _type(info.annotation)))
    return pa.schema(fields)


def _type(annotation: Any) -> pa.DataType:
    if annotation in _TYPES:
        return _TYPES[annotation]
    inside = get_args(annotation)
    match get_origin(annotation):
        case types.UnionType | typing.Union:
            # `X | None`: every column is nullable.
            (kind,) = {_type(option) for option in inside if option is not NoneType}
            return kind
        case typing.Literal:
            return pa.string()
        case builtins.tuple:
            return pa.list_(_type(inside[0]))
        case np.ndarray:
            return pa.list_(_type(get_args(inside[1])[0]))
        case _:
            return _type(annotation.__supertype__)


def batches(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows, each a dictionary by column, as batches."""
    pending: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        pending.append(row)
        size += sum(map(_size, row.values()))
        if len(pending) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield _batch(pending, schema)
            pending, size = [], 0
    if pending:
        yield _batch(pending, schema)


def _size(value: Any) -> int:
    match value:
        case str():
            return len(value)
        case np.ndarray():
            return value.nbytes
        case list():
            return sum(len(text) for pair in value for text in pair.values())
        case _:
            return 8


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    # A phase that took no step has no metrics, so rows of updates may lack columns.
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
