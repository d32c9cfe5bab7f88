"""A run of the viewer. Its log is opened at the first request and closed when it has not been requested for long."""

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
"""Seconds after its last event, or last write to a progress file, for which an unfinished run counts as playing."""
PROGRESS_FILES = ("run.log", "trainer.log", "trainer.progress")
"""Files in a run's folder that are written during long work."""

READING_BEHIND = 500
"""Events behind the log's end from which on a page says that the log is still being read."""

T = TypeVar("T")
RunState = Literal["playing", "silent", "finished"]


class RunHandle:
    """A run, whose log is open only while it is requested."""

    def __init__(self, name: str, slug: str, where: str, all_runs: Notifier) -> None:
        """Name the run, without opening its log: an untrusted name, the slug in addresses, and the log as commands name it."""
        self.name, self.slug, self.where = name, slug, where
        self.notifier, self._all_runs = Notifier(), all_runs
        self._lock = threading.Lock()
        self._follower: LogFollower | None = None
        self._file_id: tuple[int, int] | None = None
        self._derived: dict[Callable[[RunSummary], Any], tuple[RunSummary, Any]] = {}

    def _open(self) -> LogFollower:
        with self._lock:
            file_id = _file_id(self.where)
            if self._follower is None or self._follower.ended or file_id != self._file_id:
                # The follower ended when it was idle, or another file has taken the log's name.
                self._close()
                self._follower, self._file_id = LogFollower(self.where, self._notify), file_id
            self._follower.touch()
            return self._follower

    def _notify(self) -> None:
        self.notifier.notify()
        self._all_runs.notify()

    @property
    def log(self) -> ReadableLog:
        """The log, read-only."""
        return self._open().log

    @property
    def index(self) -> Index:
        """The log's index; it is filled from the first request on."""
        return self._open().index

    def summary(self) -> RunSummary:
        """A copy of the summary so far."""
        return self._open().summary()

    def summary_so_far(self) -> RunSummary:
        """The same without waiting for what an earlier viewer has kept of a long run, for pages that are filled in later."""
        return self._open().summary_so_far()

    def derived(self, make: Callable[[RunSummary], T]) -> T:
        """What a function makes of the summary so far; cached while the summary stays the same."""
        summary = self.summary_so_far()
        cached = self._derived.get(make)
        if cached is None or cached[0] is not summary:
            cached = self._derived[make] = summary, make(summary)
        return cast(T, cached[1])

    @property
    def position(self) -> int:
        """Position up to which pages know the log."""
        return self._open().position

    @property
    def head(self) -> int:
        """Last position of the log."""
        return self.log.head().position

    @property
    def reading(self) -> bool:
        """Whether much of the log has not been read yet."""
        return self.head - self.position > READING_BEHIND

    @property
    def finished(self) -> bool:
        """Whether the run has finished."""
        return self.summary_so_far().finished

    @property
    def state(self) -> RunState:
        """Whether the run has finished, and if not, whether it was active lately."""
        summary = self.summary_so_far()
        if summary.finished:
            return "finished"
        latest = max(summary.latest.timestamp() if summary.latest else 0.0, _last_progress(self.where))
        return "playing" if datetime.now(UTC).timestamp() - latest < PLAYING_S else "silent"

    @property
    def problem(self) -> GaspError | None:
        """Why the log cannot be followed; None while it can."""
        return self._open().problem

    def stop(self) -> None:
        """Tell the follower to end; `close` waits for it."""
        if self._follower is not None:
            self._follower.stop()

    def close(self) -> None:
        """Wait for the follower, which closes the log."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._follower is not None:
            self._follower.close()
            self._follower = None


def _last_progress(where: str) -> float:
    """When a progress file of a run was last written, in seconds since 1970; 0 where there are none."""
    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    latest = 0.0
    for name in PROGRESS_FILES:
        with suppress(OSError):
            latest = max(latest, (folder / name).stat().st_mtime)
    return latest


def _file_id(where: str) -> tuple[int, int] | None:
    """Device and inode of a log's file, so that a replaced file is noticed, None for a database; BadInput if it is gone."""
    path = locate_log(where)
    if isinstance(path, str):
        return None
    status = path.stat()
    return status.st_dev, status.st_ino
