"""Writes a long, plausible log quickly: a few iterations of play, repeated with other texts and tokens.

Guarantees: kinds, sizes and blobs in the proportions of a run of the pocket model; everything follows from the seed; the log
verifies, and every blob can be read.
"""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated

import typer

from benchmarks.command import run_main
from events.cli.app import locate_log
from events.cli.output import progress
from events.facts.hashing import data_of, hash_event, next_head
from events.facts.log import Event, Head, ProgressCallback, ignore_progress
from events.facts.streams import episode_stream, is_episode, iteration_of
from events.facts.values import BlobHash
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.stores.raw import Store
from events.stores.rows import EMPTY_STREAM, Row, StreamEnd, blobs_of
from events.stores.staging import Staging
from tests.support.example_runs import example_run

LOAD = 20_000
"""Events in a transaction, about."""
HASH = re.compile("[0-9a-f]{64}")
ONCE = ("run_started", "goalpost_added")
"""Kinds that are not repeated."""
BEGAN = datetime(2026, 11, 22, tzinfo=UTC).isoformat()
ITERATIONS, GOALPOSTS, GUIDED, PRACTICE = 10, 100, 16, 24


@cache
def played_log() -> MemoryLog:
    """A few iterations of play, each followed by its update; to be read only."""
    log = MemoryLog()
    iterations = example_run(log).run(recipe="gasp").goalpost(GOALPOSTS)
    for _ in range(ITERATIONS):
        iterations.start(GUIDED + PRACTICE)
        for number in range(GUIDED):
            iterations.episode(rejected=("degenerate", "not_novel") if number % 2 else (), lift=2 if number % 3 else None)
        for _ in range(PRACTICE):
            iterations.practice()
        iterations.finish().update()
    return log


class RepeatedLog:
    """A store that the same iterations are appended to again and again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tip = store.head()
        self._ends: dict[str, StreamEnd] = {}
        log = played_log()
        events = list(log.read())
        self._events = [(event, data_of(event.fact)) for event in events]
        self._blobs = {blob: log.get(blob) for event in events for blob in blobs_of(event.fact)}
        self._repetitions = 0

    def grow(self, events: int, on_progress: ProgressCallback = ignore_progress) -> None:
        """Append until there are so many events."""
        while self._tip.position < events:
            before, staging, rows = self._tip, Staging(), list[Row]()
            while len(rows) < LOAD and self._tip.position < events:
                rows += self._repetition(staging, events - self._tip.position)
            self._store.append_rows(before, rows, staging.waiting())
            on_progress(self._tip.position, events)

    def _repetition(self, staging: Staging, most: int) -> list[Row]:
        fresh = {blob: staging.put(vary_blob(content, self._repetitions)) for blob, content in self._blobs.items()}
        # Blob hashes inside an event are replaced by those of the varied blobs.
        renew = partial(HASH.sub, lambda match: fresh.get(BlobHash(match[0]), match[0]))
        rows = [self._row(event, renew(data)) for event, data in self._events[:most]]
        self._events = [part for part in self._events if part[0].fact.kind not in ONCE]
        self._repetitions += 1
        return rows

    def _row(self, event: Event, data: str) -> Row:
        kind, schema, stream = event.fact.kind, event.fact.SCHEMA, event.stream
        if is_episode(stream):
            number = int(stream.rpartition("/")[2])
            stream = episode_stream(iteration_of(stream) + self._repetitions * ITERATIONS, number)
        end = self._ends.get(stream, EMPTY_STREAM)
        version = end.version + 1
        own = hash_event(end.hash, stream=stream, version=version, kind=kind, schema=schema, data=data, causation=None)
        self._ends[stream] = StreamEnd(version, own)
        self._tip = Head(self._tip.position + 1, next_head(self._tip.digest, own))
        return Row(self._tip.position, stream, version, kind, schema, data, None, end.hash, own, self._tip.digest, BEGAN, "{}")


def vary_blob(content: bytes, times: int) -> bytes:
    """Another blob of the same form and size, a few bytes apart: JSON and text end in white space, arrays in another token."""
    if content[8:9] == b"{":
        return content[:-4] + times.to_bytes(4, "little")
    return content + bytes(b" \t"[int(bit)] for bit in f"{times:b}")


def main(
    log: Annotated[str, typer.Argument(metavar="LOG", help="A new file, or a postgresql:// URL.")],
    events: Annotated[int, typer.Option(help="How many events.", min=1)] = 1_000_000,
) -> None:
    """Write a long, plausible log."""
    with closing(open_log(locate_log(log, new=True), create=True)) as store, progress("writing") as on_progress:
        RepeatedLog(store).grow(events, on_progress)


if __name__ == "__main__":
    run_main(main)
