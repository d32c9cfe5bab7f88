"""A run that can be looked at.

Law: a log is opened when somebody first asks, and let go when nobody has for long, so that a folder of a thousand runs costs
nothing but names. It reads only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from events.cli.app import locate_log
from events.facts.errors import GaspError
from events.facts.log import ReadableLog
from events.index.reader import Index
from events.projections.run_summary import RunSummary
from events.web.view.log_follower import LogFollower
from events.web.view.notifier import Notifier

PLAYING_S = 120.0
"""Seconds for which a run that is not finished counts as played after its last event, or the last it told of its progress."""
PROGRESS_FILES = ("run.log", "trainer.log", "trainer.progress")
"""Files of a run's folder that are written while it does something that takes long."""

READING_BEHIND = 500
"""A viewer that knows so many events fewer than there are is still reading; fewer are on their way all the time."""

T = TypeVar("T")
RunState = Literal["playing", "silent", "finished"]


class RunHandle:
    """One run."""

    def __init__(self, name: str, slug: str, where: str, everybody: Notifier) -> None:
        """Open nothing yet.

        Args:
            name: what the run is called; a folder's name, escape it.
            slug: what it is called in addresses.
            where: the log, as command lines name it.
            everybody: rung whenever any run moves.
        """
        self.name = name
        self.slug = slug
        self.where = where
        self.notifier = Notifier()
        """Rung whenever this run moves."""
        self._everybody = everybody
        self._lock = threading.Lock()
        self._following: LogFollower | None = None
        self._place: tuple[int, int] | None = None
        self._derived: dict[Callable[[RunSummary], Any], tuple[RunSummary, Any]] = {}

    def _open(self) -> LogFollower:
        with self._lock:
            place = _file(self.where)
            if self._following is None or self._following.over or place != self._place:
                self._let_go()
                self._following, self._place = LogFollower(self.where, self._ring), place
            self._following.ask()
            return self._following

    def _ring(self) -> None:
        self.notifier.notify()
        self._everybody.notify()

    @property
    def log(self) -> ReadableLog:
        """The log's reading half."""
        return self._open().log

    @property
    def index(self) -> Index:
        """The log's index; whoever asks first makes it grow, and finds little in it."""
        return self._open().index

    def summary(self) -> RunSummary:
        """The figures so far; a consistent copy."""
        return self._open().summary()

    def derived(self, make: Callable[[RunSummary], T]) -> T:
        """What a function makes of the figures so far; made once for as long as they stay the same."""
        summary = self.summary()
        known = self._derived.get(make)
        if known is None or known[0] is not summary:
            known = self._derived[make] = summary, make(summary)
        return cast(T, known[1])

    @property
    def position(self) -> int:
        """Up to where the log is known."""
        return self._open().position

    @property
    def head(self) -> int:
        """Last position of the log."""
        return self.log.head().position

    @property
    def reading(self) -> bool:
        """Whether much of the log is still to be read."""
        return self.head - self.position > READING_BEHIND

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.summary().finished

    @property
    def state(self) -> RunState:
        """Whether it is over, or goes on by the time of its last event or of what it told since."""
        summary = self.summary()
        if summary.finished:
            return "finished"
        latest = max(summary.latest.timestamp() if summary.latest else 0.0, _told(self.where))
        return "playing" if datetime.now(UTC).timestamp() - latest < PLAYING_S else "silent"

    @property
    def problem(self) -> GaspError | None:
        """Why the log cannot be followed; None while it can."""
        return self._open().problem

    def stop(self) -> None:
        """Begin to let the log go; `close` waits until it has gone."""
        if self._following is not None:
            self._following.stop()

    def close(self) -> None:
        """Let the log go."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._following is not None:
            self._following.close()
            self._following = None


def _told(where: str) -> float:
    """When a run last wrote into one of its files, in seconds since 1970; 0 where there are none."""
    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    latest = 0.0
    for name in PROGRESS_FILES:
        with suppress(OSError):
            latest = max(latest, (folder / name).stat().st_mtime)
    return latest


def _file(where: str) -> tuple[int, int] | None:
    """Which file a log is in, so that another one in its place is noticed; None of a database.

    Raises:
        BadInput: it is gone.
    """
    path = locate_log(where)
    if isinstance(path, str):
        return None
    found = path.stat()
    return found.st_dev, found.st_ino
