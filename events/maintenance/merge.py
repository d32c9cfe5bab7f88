"""Merges another log into this one, stream by stream: new streams are added, and longer streams are continued.

Guarantees:
- Events of the target never change. A merged event keeps its hash, because a stream's chain does not depend on positions; its
  position and head are new.
- A stream that differs in both logs is a conflict, and so is one whose facts name positions that would change. With a conflict,
  nothing is merged unless a partial merge is requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from events.facts.errors import LogCorrupt
from events.facts.hashing import next_head
from events.facts.log import ProgressCallback, ignore_progress
from events.maintenance.copy import CopyBatch, copy_keys
from events.stores.raw import RawLog, Store
from events.stores.rows import EMPTY_STREAM, HashChain, Row, StreamEnd

KINDS_WITH_POSITIONS = frozenset({"run_resumed", "policy_updated"})
"""Kinds of facts that name positions of the log."""


class StreamConflict(NamedTuple):
    """A stream that cannot be merged."""

    stream: str
    version: int
    """The first event that is in conflict."""
    problem: str


@dataclass
class MergeReport:
    """What a merge does, or would do."""

    new: list[str] = field(default_factory=list)
    """Streams only in the other log."""
    longer: list[str] = field(default_factory=list)
    """Streams that are longer in the other log."""
    same: int = 0
    """Streams with nothing new."""
    conflicts: list[StreamConflict] = field(default_factory=list)
    events: int = 0
    """Events to merge."""
    merged: bool = False
    """False for a dry run, and with conflicts."""


def merge(
    source: Store, target: Store, *, dry_run: bool = True, partly: bool = False, on_progress: ProgressCallback = ignore_progress
) -> MergeReport:
    """Report what merging `source` into `target` does, and do it unless it is a dry run.

    Args:
        source: the other log; it is only read.
        target: is appended to. Nobody else may append to it meanwhile.
        dry_run: only report.
        partly: merge the streams without a conflict though others have one.
        on_progress: called while the other log is verified, with the events verified and their total.

    Raises:
        LogCorrupt: the source is broken.
        Conflict: somebody else appended to the target.
    """
    if (corruption := source.verify(on_progress)) is not None:
        raise LogCorrupt(f"The other log is broken at position {corruption.position}: {corruption.problem}; repair it first.")
    source_log, target_log = source.raw(), target.raw()
    until, ends = source.head().position, target_log.ends()
    report, starts = MergeReport(), dict[str, int]()
    for stream, end in sorted(source_log.ends().items()):
        here = ends.get(stream, EMPTY_STREAM)
        if here.version and (split := _split(source_log, target_log, stream, min(end.version, here.version))):
            report.conflicts.append(StreamConflict(stream, split, "the logs differ from here on"))
        elif end.version <= here.version:
            report.same += 1
        else:
            (report.longer if here.version else report.new).append(stream)
            starts[stream] = here.version
    # Leaving a stream out moves the positions of others, so this repeats until no fact names a position that moves.
    while moved := _moved(starts, source_log, target.head().digest, until):
        for conflict in moved:
            del starts[conflict.stream]
            (report.longer if conflict.stream in ends else report.new).remove(conflict.stream)
        report.conflicts += moved
    report.events = sum(1 for _ in _chosen(source_log, starts, until))
    if not dry_run and (partly or not report.conflicts):
        _carry_over(source_log, target, starts, ends, until)
        report.merged = True
    return report


def _split(source_log: RawLog, target_log: RawLog, stream: str, common: int) -> int:
    """First version at which the stream differs; 0 if one is the beginning of the other."""

    def same(version: int) -> bool:
        return source_log.hash_at(stream, version) == target_log.hash_at(stream, version)

    if same(common):
        return 0
    # Equal hashes mean equal beginnings.
    low, high = 0, common
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return high


def _chosen(source_log: RawLog, starts: Mapping[str, int], until: int) -> Iterator[Row]:
    return (row for row in source_log.rows(until=until) if row.version > starts.get(row.stream, row.version))


def _moved(starts: Mapping[str, int], source_log: RawLog, head: str, until: int) -> list[StreamConflict]:
    """Streams with facts that name positions which would change. Without these streams, others may move in turn."""
    conflicts: dict[str, StreamConflict] = {}
    for row in _chosen(source_log, starts, until):
        head = next_head(head, row.hash)
        # Equal heads mean that all positions up to here are equal.
        if row.kind in KINDS_WITH_POSITIONS and row.head != head:
            problem = f"it names positions ({row.kind}), and these are others in this log"
            conflicts.setdefault(row.stream, StreamConflict(row.stream, row.version, problem))
    return list(conflicts.values())


def _carry_over(
    source_log: RawLog, target: Store, starts: Mapping[str, int], ends: Mapping[str, StreamEnd], until: int
) -> None:
    batch, (position, head) = CopyBatch(source_log, target), target.head()
    chain = HashChain()
    chain.ends = dict(ends)
    for row in _chosen(source_log, starts, until):
        position, head = position + 1, next_head(head, row.hash)
        moved = row._replace(position=position, head=head)
        batch.add(moved)
        chain.add(moved)
    batch.flush()
    chosen = HashChain()
    # Keys of other streams name events that were not merged, or are here already.
    chosen.ends = {stream: chain.ends[stream] for stream in starts}
    copy_keys(source_log, target, chosen)
