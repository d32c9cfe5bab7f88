"""Follows one log: a thread keeps its summary and its index up to date, and notifies when they have changed.

Guarantees: the log is opened read-only. Readers never wait for the thread: they get the figures so far, with their position,
and the summary that they get is a copy that does not change any more.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import closing
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
            self._snapshot = Snapshot(path.with_suffix(".summary.json"), RunSummary)
            self._summary, self._saved = self._snapshot.load(self._log)
        except BaseException:
            self._log.close()
            raise
        self._lock = threading.Lock()
        self._copy = _copied(self._summary)
        self._stop = threading.Event()
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
        """A copy of the summary so far."""
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

    def close(self) -> None:
        """Wait until the thread has ended and closed the log and the index."""
        self._stop.set()
        self._thread.join()

    def _stopped(self) -> bool:
        return self._stop.is_set()

    def _follow(self) -> None:
        try:
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
            self._indexing.close()
            self._log.close()

    def _catch_up(self) -> None:
        """Apply new events to the summary, then to the index, for one turn each; signs of reward hacking come last."""
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
