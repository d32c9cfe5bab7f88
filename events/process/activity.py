"""The current activity of a process and its progress: kept in memory, shown or printed now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from events.process.phase_clock import Phase, PhaseClock
from events.text.logging import logger

REPORT_INTERVAL_S: Final = 10.0
"""Seconds between lines where no display is live."""
LOG_INTERVAL_S: Final = 30.0
"""Seconds between lines in a log file."""
_CHECK_INTERVAL_S: Final = 0.5


def _no_note() -> str:
    return ""


@dataclass
class ActivityTask:
    """A task in progress."""

    what: str
    total: float = 0
    """Units of work in all; 0 if unknown."""
    note: Callable[[], str] = _no_note
    """Gives an addition to the line, whenever it is shown."""
    share: Callable[[], float] | None = None
    """Gives the share of all that is done, 0 to 1, where that is finer than `done` of `total`."""
    done: float = 0
    began: float = field(default_factory=time.monotonic)
    _before: float | None = field(default=None, repr=False)
    """Units that were done when it began."""

    def add(self, count: float = 1) -> None:
        """Count more units as done."""
        self.done += count

    def __call__(self, done: float, total: float) -> None:
        """Set the units done and their total; what is done at the first call was done before the task began."""
        if self._before is None:
            self._before = done
        self.done, self.total = done, total

    @property
    def left(self) -> float | None:
        """Seconds until it is done at the rate so far; None while that is unknown."""
        before, done = self._before or 0, self.done
        if self.share is not None:
            done = self.share() * self.total
        fresh = done - before
        return (time.monotonic() - self.began) * (self.total - done) / fresh if self.total and fresh > 0 else None

    def __str__(self) -> str:
        """Such as `sampling answers: 3 of 8, 0:40 left (12 tokens/s)`."""
        note = self.note()
        progress = f"{self.what}: {self.done:,.0f} of {self.total:,.0f}" if self.total else self.what
        left, elapsed = self.left, time.monotonic() - self.began
        when = f"for {format_duration(elapsed)}" if left is None else f"{format_duration(left)} left"
        return f"{progress}, {when}" + f" ({note})" * bool(note)


class Activity:
    """All tasks in progress of a process; safe to share between threads."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[ActivityTask, int]] = {}
        self._clock = PhaseClock()
        self._lock = threading.Lock()
        self.warnings: list[str] = []

    @contextmanager
    def task(
        self,
        what: str,
        total: float = 0,
        note: Callable[[], str] = _no_note,
        share: Callable[[], float] | None = None,
        phase: Phase | None = None,
    ) -> Iterator[ActivityTask]:
        """A task that lasts as long as the block; blocks of the same name that overlap share one task and its counts.

        `phase` is what its seconds count as, see `lap`.
        """
        with self._lock:
            if phase is not None:
                self._clock.begin(phase)
            task, users = self._tasks.get(what, (ActivityTask(what, note=note, share=share), 0))
            # Each of those who share a task knows only its own part.
            task.share = None if users else share
            task.total += total
            self._tasks[what] = task, users + 1
        try:
            yield task
        finally:
            with self._lock:
                if phase is not None:
                    self._clock.end(phase)
                _, users = self._tasks[what]
                if users > 1:
                    self._tasks[what] = task, users - 1
                else:
                    del self._tasks[what]

    def lap(self) -> dict[str, float]:
        """Seconds by phase since the last lap; see `PhaseClock`."""
        with self._lock:
            return self._clock.lap()

    def warn(self, sentence: str) -> None:
        """Show a warning, and log it."""
        logger().warning("warning", message=sentence)
        self.warnings.append(sentence)

    def __str__(self) -> str:
        """All tasks on one line, the oldest first; empty when there is none."""
        with self._lock:
            return "; ".join(str(task) for task, _ in self._tasks.values())

    @property
    def first(self) -> ActivityTask | None:
        """The oldest task; others may be parts of it."""
        with self._lock:
            return next((task for task, _ in self._tasks.values()), None)


@contextmanager
def report_activity(
    activity: Activity, tell: Callable[[str], None], every_s: float = REPORT_INTERVAL_S, *, idle: bool = False
) -> Iterator[None]:
    """Pass the activity to `tell` every `every_s` seconds, warnings soon, from a thread; `idle`: also when there is none."""
    over = threading.Event()

    def watch() -> None:
        reported = 0
        latest = time.monotonic()
        while not over.wait(min(_CHECK_INTERVAL_S, every_s)):
            for sentence in activity.warnings[reported:]:
                tell(f"warning: {sentence}")
            reported = len(activity.warnings)
            line = str(activity)
            if time.monotonic() - latest >= every_s and (line or idle):
                latest = time.monotonic()
                tell(line)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def format_duration(seconds: float) -> str:
    """`M:SS`, or `H:MM:SS` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
