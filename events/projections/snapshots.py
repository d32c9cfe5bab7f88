"""Snapshots: what a projection was at some position, kept in a file, so that folding need not begin at the first event.

Law: a snapshot is a cache and nothing else. It is used only if it was made by the same projection from this very log (same
head at its position), and deleting it is always safe. It is JSON, never code. Only projections whose whole state is in their
fields, as pydantic reads and writes it, can have one: two fields must not share an object.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from events.facts.log import Head, ProgressCallback, ReadableLog, ignore_progress
from events.projections.run_summary import Projection

P = TypeVar("P", bound=Projection)

REPORT_EVERY = 1000
"""Events after which a fold says how far it is."""


class _SnapshotFile(BaseModel):
    """A snapshot's file."""

    shape: str
    position: int
    head: str
    state: str


class Snapshot(Generic[P]):
    """The file that keeps one projection of one log."""

    def __init__(self, path: Path, fresh: Callable[[], P], *, version: int = 1, every: int = 10_000) -> None:
        """Read nothing yet.

        Args:
            path: the file.
            fresh: the projection of an empty log; its class says what the state is.
            version: of what the projection computes; another one makes old snapshots void.
            every: events after which a new snapshot is written.
        """
        self._path = path
        self._fresh = fresh
        self._every = every
        self._adapter: TypeAdapter[P] = TypeAdapter(type(fresh()))
        schema = json.dumps([self._adapter.json_schema(), version], sort_keys=True)
        self._shape = hashlib.sha256(schema.encode()).hexdigest()

    def fold(self, log: ReadableLog, say: ProgressCallback = ignore_progress) -> P:
        """The projection at the end of the log.

        Args:
            log: what is folded.
            say: told now and then how many events are done, of how many.
        """
        projection, start = self.load(log)
        at, end = Head(start, ""), log.head().position
        for event in log.read(after=start):
            projection.apply(event)
            at = Head(event.position, event.head)
            if at.position % REPORT_EVERY == 0:
                say(at.position, max(at.position, end))
        if at.position - start >= self._every:
            self.save(projection, at)
        return projection

    def load(self, log: ReadableLog) -> tuple[P, int]:
        """The projection as it was kept, and the position that it is at; a fresh one at 0 if none can be used."""
        try:
            kept = _SnapshotFile.model_validate_json(self._path.read_bytes())
            last = next(log.read(after=kept.position - 1, limit=1), None)
            if kept.shape == self._shape and last is not None and (last.position, last.head) == (kept.position, kept.head):
                return self._adapter.validate_json(kept.state), kept.position
        except (OSError, ValidationError):
            pass
        return self._fresh(), 0

    def save(self, projection: P, at: Head) -> None:
        """Keep the projection, which is at this place of its log."""
        state = self._adapter.dump_json(projection).decode()
        text = _SnapshotFile(shape=self._shape, position=at.position, head=at.digest, state=state).model_dump_json()
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        # A cache that cannot be written is no reason to fail.
        with suppress(OSError):
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
