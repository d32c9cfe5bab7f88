"""Merges another log into this one, stream by stream: new streams are added, and streams that went on there go on here.

Law: what is here is never changed, and an event keeps its hash, because a stream's chain knows nothing of positions; its
position and the head are new. A stream that went two ways is a conflict, and so is one whose facts name positions that would
be others here. If there is a conflict, nothing is merged unless it is asked for in part.
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
    """The first event that stands in the way."""
    problem: str


@dataclass
class MergeReport:
    """What a merge would do, or did."""

    new: list[str] = field(default_factory=list)
    """Streams that are only in the other log."""
    longer: list[str] = field(default_factory=list)
    """Streams that go on in the other log."""
    same: int = 0
    """Streams with nothing new."""
    conflicts: list[StreamConflict] = field(default_factory=list)
    events: int = 0
    """Events to merge."""
    merged: bool = False
    """Whether they were merged."""


def merge(
    source: Store, target: Store, *, dry_run: bool = True, partly: bool = False, on_progress: ProgressCallback = ignore_progress
) -> MergeReport:
    """Say what merging `source` into `target` means, and do it unless it is a dry run.

    Args:
        source: the other log; stays as it is.
        target: what grows. Nobody else may append to it meanwhile.
        dry_run: only say it.
        partly: merge the streams without a conflict though others have one.
        on_progress: called while the other log is verified, with the events verified and their total.

    Raises:
        LogCorrupt: the source is broken.
        Conflict: somebody else appended to the target.
    """
    if (broken := source.verify(on_progress)) is not None:
        raise LogCorrupt(f"The other log is broken at position {broken.position}: {broken.problem}; repair it first.")
    theirs, mine = source.raw(), target.raw()
    until, ends = source.head().position, mine.ends()
    report, starts = MergeReport(), dict[str, int]()
    for stream, end in sorted(theirs.ends().items()):
        here = ends.get(stream, EMPTY_STREAM)
        if here.version and (split := _split(theirs, mine, stream, min(end.version, here.version))):
            report.conflicts.append(StreamConflict(stream, split, "the logs say different things from here on"))
        elif end.version <= here.version:
            report.same += 1
        else:
            (report.longer if here.version else report.new).append(stream)
            starts[stream] = here.version
    while moved := _moved(starts, theirs, target.head().digest, until):
        for conflict in moved:
            del starts[conflict.stream]
            (report.longer if conflict.stream in ends else report.new).remove(conflict.stream)
        report.conflicts += moved
    report.events = sum(1 for _ in _chosen(theirs, starts, until))
    if not dry_run and (partly or not report.conflicts):
        _carry_over(theirs, target, starts, ends, until)
        report.merged = True
    return report


def _split(theirs: RawLog, mine: RawLog, stream: str, common: int) -> int:
    """First version at which the stream differs, 0 if one log's is the beginning of the other's."""

    def same(version: int) -> bool:
        return theirs.hash_at(stream, version) == mine.hash_at(stream, version)

    if same(common):
        return 0
    # Equal hashes mean equal beginnings.
    low, high = 0, common
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return high


def _chosen(theirs: RawLog, starts: Mapping[str, int], until: int) -> Iterator[Row]:
    return (row for row in theirs.rows(until=until) if row.version > starts.get(row.stream, row.version))


def _moved(starts: Mapping[str, int], theirs: RawLog, head: str, until: int) -> list[StreamConflict]:
    """Streams with facts whose positions would not be those of the other log. Without them, others may move."""
    found: dict[str, StreamConflict] = {}
    for row in _chosen(theirs, starts, until):
        head = next_head(head, row.hash)
        # Equal heads mean that all positions up to here are equal.
        if row.kind in KINDS_WITH_POSITIONS and row.head != head:
            problem = f"it names positions ({row.kind}), and these are others in this log"
            found.setdefault(row.stream, StreamConflict(row.stream, row.version, problem))
    return list(found.values())


def _carry_over(theirs: RawLog, target: Store, starts: Mapping[str, int], ends: Mapping[str, StreamEnd], until: int) -> None:
    parcel, (position, head) = CopyBatch(theirs, target), target.head()
    chain = HashChain()
    chain.ends = dict(ends)
    for row in _chosen(theirs, starts, until):
        position, head = position + 1, next_head(head, row.hash)
        moved = row._replace(position=position, head=head)
        parcel.add(moved)
        chain.add(moved)
    parcel.send()
    chosen = HashChain()
    chosen.ends = {stream: chain.ends[stream] for stream in starts}
    copy_keys(theirs, target, chosen)
