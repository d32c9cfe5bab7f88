"""Follows one log: a thread keeps its summary and its index up to date, and notifies when they have changed.

Guarantees: the log is opened read-only. Readers get the figures so far, with their position; they wait for the thread at most
until it has loaded a snapshot of the summary. The summary that they get is a copy that does not change any more.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic

from events.cli.app import open_run
from events.facts.errors import GaspError
from events.facts.follow import POLL_INTERVAL_S
from events.facts.log import Head, ReadableLog
from events.index.location import index_path
from events.index.reader import Index
from events.index.writer import Indexer
from events.projections.run_summary import RunSummary
from events.projections.snapshots import Snapshot

IDLE_S = 300.0
"""Seconds after the last request at which a log is no longer followed."""
SNAPSHOT_EVERY = 10_000
"""Events after which a snapshot of the summary is written, for the next viewer."""
RETRY_S = 5.0
"""Seconds after an error at which the log is read again."""
LARGE_SNAPSHOT = 1_000_000
"""Bytes of a snapshot, some thousand events' worth, from which on the first page does not wait for it."""
HEAD_START_S = 0.3
"""Seconds for which loading a large snapshot is put off: it holds the interpreter, and the first page would come after it."""
TURN_S = 1.0
"""Seconds of work on the summary, or on the index, before the other has its turn and subscribers are notified."""


class LogFollower:
    """Follows a log until it is closed, or has not been requested for `IDLE_S`."""

    def __init__(self, where: str, notify: Callable[[], None]) -> None:
        """Open the log and its index, and start the thread, which calls `notify` after every change.

        Raises:
            BadInput: there is no such log.
            LogError: the log or its index cannot be opened.
        """
        self._notify = notify
        self._log = open_run(where, read_only=True)
        try:
            path = index_path(where)
            self._indexing = Indexer(self._log, path)
        except BaseException:
            self._log.close()
            raise
        self._snapshot_path = path.with_suffix(".summary.json")
        self._snapshot: Snapshot[RunSummary] | None = None
        self._summary, self._saved = RunSummary(), 0
        self._copy = self._summary
        self._lock = threading.Lock()
        self._stop, self._summary_wanted, self._loaded = threading.Event(), threading.Event(), threading.Event()
        if _size(self._snapshot_path) < LARGE_SNAPSHOT:
            self._summary_wanted.set()
        self._index_wanted = False
        self._requested = monotonic()
        self.problem: GaspError | None = None
        """Why the log cannot be followed; None while it can."""
        self.ended = False
        """Whether the thread has ended."""
        self._thread = threading.Thread(target=self._follow, name=f"follow {path}", daemon=True)
        self._thread.start()

    @property
    def log(self) -> ReadableLog:
        """The log, read-only."""
        return self._log

    @property
    def index(self) -> Index:
        """The index, which the thread keeps up to date from the first use on."""
        self._index_wanted = True
        return self._indexing.index

    @property
    def position(self) -> int:
        """Position of what pages show: of the summary, or of the index if that is used and behind."""
        position = self._summary.position
        return min(position, self._indexing.index.position) if self._index_wanted else position

    @property
    def _progress(self) -> tuple[int, int]:
        return self.position, self._indexing.index.signs_position if self._index_wanted else 0

    def summary(self) -> RunSummary:
        """A copy of the summary so far, the snapshot of the viewer before included."""
        self._summary_wanted.set()
        self._loaded.wait()
        return self.summary_so_far()

    def summary_so_far(self) -> RunSummary:
        """The same without waiting: an empty one until a large snapshot is loaded."""
        if self._summary_wanted.is_set():
            self._loaded.wait()
        with self._lock:
            if self._copy.position != self._summary.position:
                self._copy = _copied(self._summary)
            return self._copy

    def touch(self) -> None:
        """Note a request, so that the log is followed on."""
        self._requested = monotonic()

    def stop(self) -> None:
        """Tell the thread to end."""
        self._stop.set()
        self._summary_wanted.set()

    def close(self) -> None:
        """Wait until the thread has ended and closed the log and the index."""
        self.stop()
        self._thread.join()

    def _stopped(self) -> bool:
        return self._stop.is_set()

    def _follow(self) -> None:
        try:
            self._summary_wanted.wait(HEAD_START_S)
            with closing(self._log.subscribe()) as subscription:
                while not self._stopped() and monotonic() - self._requested < IDLE_S:
                    before = self._progress
                    try:
                        self._catch_up()
                        self.problem = None
                    except GaspError as error:
                        self.problem = error
                        self._notify()
                        self._stop.wait(RETRY_S)
                    if self._progress != before:
                        self._notify()
                    elif not self._stopped():
                        subscription.wait(POLL_INTERVAL_S)
        finally:
            self.ended = True
            self._loaded.set()
            self._indexing.close()
            self._log.close()

    def _load(self) -> Snapshot[RunSummary]:
        """Load the snapshot of the summary."""
        try:
            snapshot = Snapshot(self._snapshot_path, RunSummary)
            summary, self._saved = snapshot.load(self._log)
            with self._lock:
                self._summary = summary
        finally:
            self._loaded.set()
        self._notify()
        return snapshot

    def _catch_up(self) -> None:
        """Apply new events to the summary, then to the index, for one turn each; signs of reward hacking come last."""
        if self._snapshot is None:
            self._snapshot = self._load()
        at, until = Head(self._summary.position, ""), monotonic() + TURN_S
        for event in self._log.read(after=at.position):
            # Pages copy the summary meanwhile.
            with self._lock:
                self._summary.apply(event)
            at = Head(event.position, event.head)
            if self._stopped() or monotonic() > until:
                break
        else:
            if at.digest and at.position - self._saved >= SNAPSHOT_EVERY:
                self._snapshot.save(self._summary, at)
                self._saved = at.position
        if self._index_wanted:
            until = monotonic() + TURN_S
            self._indexing.catch_up(stop=lambda: self._stopped() or monotonic() > until)
            self._indexing.catch_up_signs(stop=lambda: self._stopped() or monotonic() > until)


def _size(path: Path) -> int:
    """The size of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _copied(summary: RunSummary) -> RunSummary:
    """A copy that shares with the original only facts, which are frozen, and iterations that have ended."""
    new = copy.copy(summary)
    new.iterations = {number: each if each.ended else copy.deepcopy(each) for number, each in summary.iterations.items()}
    new.goalposts = {question: copy.copy(figures) for question, figures in summary.goalposts.items()}
    new.samples, new.players = copy.deepcopy(summary.samples), copy.deepcopy(summary.players)
    for name in ("evaluations", "calibrations", "trials", "promotions", "updates", "speeds"):
        setattr(new, name, list(getattr(summary, name)))
    new.policies, new.served = dict(summary.policies), dict(summary.served)
    return new
