"""Copies a log into another store row by row: hashes, heads, times, measures, keys and blobs stay as they are.

Guarantees:
- Every row is checked against the chain, so that a broken log cannot be copied unnoticed.
- The target is a sound log after every transaction; a copy that was interrupted goes on where it stopped.
- Blobs that no event names are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Head, ProgressCallback, ignore_progress
from events.facts.values import BlobHash
from events.stores.paging import PAGE_SIZE
from events.stores.raw import RawLog, Store
from events.stores.rows import HashChain, Row, blobs_of, open_row, with_progress
from events.stores.staging import PackedBlob
from events.stores.transaction import Key

BATCH_BYTES = 8_000_000
"""Bytes of blobs after which a transaction ends."""


class CopyResult(NamedTuple):
    """Result of a copy."""

    head: Head
    """End of the target."""
    events: int
    """Events copied now; fewer than the log has where an earlier copy was interrupted."""


class CopyBatch:
    """Collects rows and the blobs that they name, and appends them to a store in batches."""

    def __init__(self, source: RawLog, target: Store) -> None:
        self._source = source
        self._target = target
        self._tip = target.head()
        self._rows: list[Row] = []
        self._blobs: list[PackedBlob] = []
        self._added: set[BlobHash] = set()
        self._bytes = 0
        self.sent = 0
        """Rows appended."""

    def add(self, row: Row) -> None:
        """Add a row; appends the batch when it is full."""
        for blob in blobs_of(open_row(row).fact):
            if blob not in self._added:
                self._added.add(blob)
                self._blobs.append(self._source.packed(blob))
                self._bytes += len(self._blobs[-1].content)
        self._rows.append(row)
        if len(self._rows) >= PAGE_SIZE or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Append what was added."""
        if self._rows:
            self._target.append_rows(self._tip, self._rows, self._blobs)
            self._tip = Head(self._rows[-1].position, self._rows[-1].head)
            self.sent += len(self._rows)
            self._rows, self._blobs, self._bytes = [], [], 0


def migrate(source: Store, target: Store, on_progress: ProgressCallback = ignore_progress) -> CopyResult:
    """Copy a log up to its present end into an empty one, or into one that an earlier copy began; then verify the copy.

    Raises:
        BadInput: the target holds something else.
        LogCorrupt: the source is broken; the rows before that are copied.
    """
    end, start = source.head(), target.head()
    if start.position > end.position:
        raise BadInput(f"The target has {start.position} events and the source {end.position}; give an empty target.")
    raw = source.raw()
    chain, sent = copy_rows(with_progress(raw.rows(until=end.position), end.position, on_progress), raw, target)
    if chain.tip != end:
        raise LogCorrupt(f"The source promises {end.position} events, but its tail was cut off or changed; repair it first.")
    copy_keys(raw, target, chain)
    if (corruption := target.verify(on_progress)) is not None:
        message = f"The copy is wrong at position {corruption.position}: {corruption.problem}"
        raise LogCorrupt(f"{message}; empty the target and repeat.")
    return CopyResult(target.head(), sent)


def copy_rows(rows: Iterable[Row], source: RawLog, target: Store) -> tuple[HashChain, int]:
    """Copy rows, from position 1 on, behind those that the target has; returns the chain and the number of rows copied.

    Raises:
        BadInput: the target holds another log.
        LogCorrupt: a row does not follow on.
    """
    start, chain, batch = target.head(), HashChain(), CopyBatch(source, target)
    for row in rows:
        problem = chain.problem(row)
        if problem is not None:
            batch.flush()
            raise LogCorrupt(f"The source is broken at position {chain.tip.position + 1}: {problem}; repair it first.")
        chain.add(row)
        if row.position == start.position and chain.tip != start:
            message = f"The target holds another log, with head {start.digest} at position {start.position}"
            raise BadInput(f"{message}; give an empty one.")
        if row.position > start.position:
            batch.add(row)
    batch.flush()
    return chain, batch.sent


def copy_keys(source: RawLog, target: Store, chain: HashChain) -> None:
    """Copy the keys of the chain's events."""
    keys: list[Key] = []
    for key in source.all_keys():
        end = chain.ends.get(key.stream)
        if key.version + key.size - 1 <= (end.version if end else 0):
            keys.append(key)
        if len(keys) >= PAGE_SIZE:
            target.append_keys(keys)
            keys = []
    if keys:
        target.append_keys(keys)
