"""A log of a million events: replay with validation, what commands take on it, and bytes a rollout.

Replay is measured in CPU time of one thread, since it waits for nothing and the machine may be shared; commands are timed as
processes, from start to end. The library reads a copy of the same events, the bare driver the same file, in pages of the same
size.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from statistics import median
from uuid import NAMESPACE_URL, uuid5

from eventsourcing.persistence import JSONTranscoder, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from pydantic import TypeAdapter

from benchmarks.command import made_once
from benchmarks.log_appends import library_sqlite
from benchmarks.repeated_log import RepeatedLog
from benchmarks.rounds import Claim, interleaved
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AnyFact, AttemptsMade, QuestionProposed
from events.stores import open_log
from events.stores.paging import COLUMNS, PAGE_SIZE
from events.stores.raw import Store

MIN_RATIO_RAW = 200 / 560
SAMPLE = 2000
"""Generations whose rollouts are written as JSON, at most."""
COMMANDS = ("show", "tail", "stats")
BATCH = 10_000
WATCH = """
import os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(time.perf_counter() - began, usage.ru_maxrss, status)"""
"""A small process that starts another; what starts from a large one counts its memory as its own."""


def long_log(folder: Path, events: int) -> Path:
    """A log of so many events, made once and kept."""

    def make(draft: Path) -> None:
        with closing(open_log(draft, create=True)) as log:
            RepeatedLog(log).grow(events)

    return made_once(folder / f"{events}.sqlite", make)


def library_copy(log: Store, path: Path) -> None:
    """Write the same events as the library stores them; made once and kept."""

    def make(draft: Path) -> None:
        with ExitStack() as stack:
            recorder = library_sqlite(stack, draft)
            rows = log.raw().rows(until=log.head().position)
            events = (StoredEvent(uuid5(NAMESPACE_URL, row.stream), row.version, row.kind, row.data.encode()) for row in rows)
            while batch := list(islice(events, BATCH)):
                recorder.insert_events(batch)

    made_once(path, make)


def replay_claims(folder: Path, *, rounds: int, events: int) -> list[Claim]:
    """Claims on the replay of all events, a part of the log a round."""
    path, copy = long_log(folder, events), folder / f"{events}.library.sqlite"
    part = events // rounds
    with closing(open_log(path)) as log, closing(sqlite3.connect(path)) as db:
        library_copy(log, copy)
        datastore = SQLiteDatastore(str(copy))
        recorder = SQLiteApplicationRecorder(datastore)
        decode = JSONTranscoder().decode
        query = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608  # constants

        def library(read: Callable[[bytes], object]) -> Callable[[int], int]:
            def replay(after: int) -> int:
                for start in range(after + 1, after + part + 1, PAGE_SIZE):
                    for event in recorder.select_notifications(start, min(PAGE_SIZE, after + part + 1 - start)):
                        read(event.state)
                return part

            return replay

        contenders = {
            "ours": lambda after: sum(1 for _ in log.read(after=after, limit=part)),
            "raw": lambda after: sum(1 for _ in db.execute(query, (after, part))),
            "decoded": library(decode),
            "validated": library(TypeAdapter(AnyFact).validate_json),
        }
        rates = interleaved({name: _parts(replay, part) for name, replay in contenders.items()}, rounds)
        datastore.close()
    what = f"replay of {events:,} events with validation".replace(",", " ")
    return [
        Claim(what, rates["ours"], "raw sqlite3, rows only", rates["raw"], MIN_RATIO_RAW),
        Claim(what, rates["ours"], "eventsourcing, JSON decoded", rates["decoded"]),
        Claim(what, rates["ours"], "eventsourcing, validated", rates["validated"]),
    ]


def _parts(replay: Callable[[int], int], part: int) -> Callable[[], float]:
    """Each call replays the next part of the log; the rate by CPU time."""
    starts = iter(range(0, sys.maxsize, part))

    def measure() -> float:
        after, began = next(starts), time.process_time()
        assert replay(after) == part
        return part / (time.process_time() - began)

    return measure


def commands(folder: Path, *, rounds: int, events: int) -> list[list[str]]:
    """Seconds and memory of the commands on the long log, and memory on a short one."""
    long, short = long_log(folder, events), long_log(folder, 1000)
    rows = []
    for command in COMMANDS:
        taken = [run(command, long) for _ in range(rounds)]
        seconds, memory = median(s for s, _ in taken), max(m for _, m in taken)
        small = max(run(command, short)[1] for _ in range(rounds))
        met = "met" if seconds < 1 else "missed"
        rows.append([f"`{command}`", f"{seconds:.2f} s", f"{memory:.0f} MB", f"{small:.0f} MB", f"< 1 s: {met}"])
    return rows


def run(command: str, log: Path) -> tuple[float, float]:
    """Seconds and megabytes of one command, from start to end."""
    words = [sys.executable, "-S", "-c", WATCH, sys.executable, "-m", "events", command, str(log)]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    seconds, kilobytes, status = output.split()
    assert status == "0"
    return float(seconds), float(kilobytes) / 1000


def bytes_a_rollout(path: Path) -> list[str]:
    """A table row of bytes a rollout: in the whole file, in blobs of generations, and as lines of JSON."""
    rollouts = blobs = as_json = tokens = 0
    with closing(open_log(path)) as log:
        figures = log.stats()
        for event in islice(log.read(kinds=("attempts_made", "question_proposed")), SAMPLE):
            assert isinstance(event.fact, AttemptsMade | QuestionProposed)
            generation = event.fact.generation
            hashes = (generation.prompt, generation.texts, generation.tokens)
            blobs += sum(len(log.raw().packed(blob).content) for blob in hashes)
            as_json += len("\n".join(_lines(log, event.fact)).encode())
            rollouts += generation.count
            tokens += generation.length
    of_file = figures.size / figures.tally.rollouts
    sizes = [f"{size:.0f}" for size in (of_file, blobs / rollouts, as_json / rollouts)]
    count = f"{figures.tally.rollouts:,}".replace(",", " ")
    return [count, f"{tokens / rollouts:.1f}", *sizes, f"**{as_json / of_file / rollouts:.2f}**"]


def _lines(log: Store, fact: AttemptsMade | QuestionProposed) -> Iterator[str]:
    """A line of JSON for every completion: prompt, text, ids and logprobs, as other tools keep rollouts."""
    generation = fact.generation
    arrays = unpack_rollouts(log.get(generation.tokens))
    prompt, texts = log.get(generation.prompt).decode(), json.loads(log.get(generation.texts))
    for text, ids, logprobs in zip(texts, arrays.ids, arrays.logprobs, strict=True):
        numbers = {"prompt_ids": arrays.prompt.tolist(), "ids": ids.tolist(), "logprobs": logprobs.tolist()}
        yield json.dumps({"policy": generation.policy, "prompt": prompt, "text": text, **numbers})
