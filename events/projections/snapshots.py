"""Snapshots: the state of a projection at a position, in a file, so that folding need not begin at the first event.

Guarantees:
- A snapshot is used only if the same projection made it from this very log (same head at its position).
- It is a cache in JSON; deleting it is always safe.

A projection can have one if pydantic reads and writes its whole state, and no two of its fields share an object.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from events.facts.log import Head, ProgressCallback, ReadableLog, event_at, ignore_progress
from events.projections.run_summary import Projection

P = TypeVar("P", bound=Projection)

REPORT_EVERY = 1000
"""Events between two reports of progress."""
_ADDRESS = re.compile(r"\b0x[0-9a-f]+|:[0-9]{6,}")


class _SnapshotFile(BaseModel):
    """Content of a snapshot's file."""

    shape: str
    position: int
    head: str
    state: str


class Snapshot(Generic[P]):
    """The snapshot of one projection of one log."""

    def __init__(self, path: Path, fresh: Callable[[], P], *, version: int = 1, every: int = 10_000) -> None:
        """Name the file, without reading it. A snapshot of another `version` is ignored; `every` counts events between two."""
        self._path, self._fresh, self._every = path, fresh, every
        self._adapter: TypeAdapter[P] = TypeAdapter(type(fresh()))
        # A projection whose state has another schema cannot read the snapshot. Addresses differ from process to process.
        schema = _ADDRESS.sub("", f"{version} {self._adapter.core_schema}")
        self._shape = hashlib.sha256(schema.encode()).hexdigest()

    def fold(self, log: ReadableLog, on_progress: ProgressCallback = ignore_progress) -> P:
        """Fold the log to its end, from the snapshot on."""
        projection, start = self.load(log)
        at, end = Head(start, ""), log.head().position
        for event in log.read(after=start):
            projection.apply(event)
            at = Head(event.position, event.head)
            if at.position % REPORT_EVERY == 0:
                on_progress(at.position, max(at.position, end))
        if at.position - start >= self._every:
            self.save(projection, at)
        return projection

    def load(self, log: ReadableLog) -> tuple[P, int]:
        """The projection of the snapshot and its position; a fresh one and 0 if no snapshot can be used."""
        try:
            snapshot = _SnapshotFile.model_validate_json(self._path.read_bytes())
            last = event_at(log, snapshot.position)
            if snapshot.shape == self._shape and last is not None and last.head == snapshot.head:
                return self._adapter.validate_json(snapshot.state), snapshot.position
        except (OSError, ValidationError):
            pass
        return self._fresh(), 0

    def save(self, projection: P, at: Head) -> None:
        """Write the projection, which is at position and head `at` of its log; a failure to write is ignored."""
        state = self._adapter.dump_json(projection).decode()
        text = _SnapshotFile(shape=self._shape, position=at.position, head=at.digest, state=state).model_dump_json()
        # Each process writes its own draft, and the rename is atomic.
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        # A cache that cannot be written is no reason to fail.
        with suppress(OSError):
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
