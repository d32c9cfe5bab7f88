"""Follows one log: a thread keeps its summary and its index up to date, and rings when they moved.

Law: the log is opened for reading only. Nobody waits for the thread: whoever asks gets what is known so far, and how far that
is. The summary that is given out is a copy, which nobody changes any more.
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
"""How long a log is followed after the last interest in it."""
SNAPSHOT_EVERY = 10_000
"""Events after which the summary is kept in a file, so that the next viewer starts from there."""
RETRY_S = 5.0
"""How long after an error it is tried again."""
TURN_S = 1.0
"""How long a summary or an index far behind is worked on before the other one has its turn, and listeners are told."""


class LogFollower:
    """One log that is being followed, from when it is made until it is closed or nobody has asked for long."""

    def __init__(self, where: str, ring: Callable[[], None]) -> None:
        """Open the log and its index, and start to follow.

        Args:
            where: the log, as command lines name it.
            ring: called after every move, from the thread.

        Raises:
            BadInput: there is no such log.
            LogError: the log or its index cannot be opened.
        """
        self._ring = ring
        self._log = open_run(where, read_only=True)
        try:
            place = index_path(where)
            self._indexing = Indexer(self._log, place)
            self._snapshot = Snapshot(place.with_suffix(".summary.json"), RunSummary)
            self._summary, self._kept = self._snapshot.load(self._log)
        except BaseException:
            self._log.close()
            raise
        self._lock = threading.Lock()
        self._copy = _copied(self._summary)
        self._stop = threading.Event()
        self._index_wanted = False
        self._asked = monotonic()
        self.problem: GaspError | None = None
        """Why it does not get on; None while it does."""
        self.over = False
        """Whether it has ended: nobody asked for long, or it was closed."""
        self._thread = threading.Thread(target=self._follow, name=f"follow {place}", daemon=True)
        self._thread.start()

    @property
    def log(self) -> ReadableLog:
        """The log."""
        return self._log

    @property
    def index(self) -> Index:
        """The index, which is brought up to date from now on."""
        self._index_wanted = True
        return self._indexing.index

    @property
    def position(self) -> int:
        """Up to where pages know the log: by its summary, and by its index if that was asked for."""
        known = self._summary.position
        return min(known, self._indexing.index.position) if self._index_wanted else known

    def summary(self) -> RunSummary:
        """The figures so far; a copy."""
        with self._lock:
            if self._copy.position != self._summary.position:
                self._copy = _copied(self._summary)
            return self._copy

    def ask(self) -> None:
        """Show interest."""
        self._asked = monotonic()

    def stop(self) -> None:
        """Begin to end."""
        self._stop.set()

    def close(self) -> None:
        """End, and release log and index."""
        self._stop.set()
        self._thread.join()

    def _stopped(self) -> bool:
        return self._stop.is_set()

    def _follow(self) -> None:
        try:
            with closing(self._log.subscribe()) as subscription:
                while not self._stopped() and monotonic() - self._asked < IDLE_S:
                    before = self.position
                    try:
                        self._catch_up()
                        self.problem = None
                    except GaspError as error:
                        self.problem = error
                        self._ring()
                        self._stop.wait(RETRY_S)
                    if self.position != before:
                        self._ring()
                    elif not self._stopped():
                        subscription.wait(POLL_INTERVAL_S)
        finally:
            self.over = True
            self._indexing.close()
            self._log.close()

    def _catch_up(self) -> None:
        """Take what there is into account, or as much of it as can be done in a turn each."""
        at, until = Head(self._summary.position, ""), monotonic() + TURN_S
        for event in self._log.read(after=at.position):
            with self._lock:
                self._summary.apply(event)
            at = Head(event.position, event.head)
            if self._stopped() or monotonic() > until:
                break
        else:
            if at.digest and at.position - self._kept >= SNAPSHOT_EVERY:
                self._snapshot.save(self._summary, at)
                self._kept = at.position
        if self._index_wanted:
            until = monotonic() + TURN_S
            self._indexing.catch_up(stop=lambda: self._stopped() or monotonic() > until)


def _copied(summary: RunSummary) -> RunSummary:
    """A copy in common with the original are only facts, which are frozen, and iterations that have ended."""
    new = copy.copy(summary)
    new.iterations = {
        number: figures if figures.ended else copy.deepcopy(figures) for number, figures in summary.iterations.items()
    }
    new.goalposts = {question: copy.copy(figures) for question, figures in summary.goalposts.items()}
    new.samples = copy.deepcopy(summary.samples)
    new.evaluations, new.updates, new.speeds = list(summary.evaluations), list(summary.updates), list(summary.speeds)
    new.policies, new.served = dict(summary.policies), dict(summary.served)
    return new
