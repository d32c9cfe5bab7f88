"""What a process is doing at the moment and how far it is, for people: kept in memory, shown or printed now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

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
    """One thing that is being done."""

    what: str
    total: float = 0
    """How much there is to do; 0: nobody knows."""
    note: Callable[[], str] = _no_note
    """More to say of it, asked whenever it is shown."""
    share: Callable[[], float] | None = None
    """How much of all is done, of 1, where that is finer than `done` of `total`."""
    done: float = 0
    began: float = field(default_factory=time.monotonic)
    _before: float | None = field(default=None, repr=False)
    """How much was done when it began."""

    def add(self, count: float = 1) -> None:
        """So much more is done."""
        self.done += count

    def __call__(self, done: float, total: float) -> None:
        """So much is done, of so much; what is done at the first call was done before."""
        if self._before is None:
            self._before = done
        self.done, self.total = done, total

    @property
    def left(self) -> float | None:
        """Seconds until it is done at the pace so far; None while nobody can know."""
        before, done = self._before or 0, self.done
        if self.share is not None:
            done = self.share() * self.total
        fresh = done - before
        return (time.monotonic() - self.began) * (self.total - done) / fresh if self.total and fresh > 0 else None

    def __str__(self) -> str:
        """Such as `sampling answers: 3 of 8, 0:40 left (12 tokens/s)`."""
        note = self.note()
        report_activity = f"{self.what}: {self.done:,.0f} of {self.total:,.0f}" if self.total else self.what
        when = (
            f"for {format_duration(time.monotonic() - self.began)}"
            if self.left is None
            else f"{format_duration(self.left)} left"
        )
        return f"{report_activity}, {when}" + f" ({note})" * bool(note)


class Activity:
    """All that a process is doing; threads may share it."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[ActivityTask, int]] = {}
        self._lock = threading.Lock()
        self.warnings: list[str] = []
        """What somebody should know although it goes on."""

    @contextmanager
    def task(
        self, what: str, total: float = 0, note: Callable[[], str] = _no_note, share: Callable[[], float] | None = None
    ) -> Iterator[ActivityTask]:
        """Something that is being done until the block ends; those that do the same at once share one task and its counts."""
        with self._lock:
            task, users = self._tasks.get(what, (ActivityTask(what, note=note, share=share), 0))
            # Who shares a task knows of its own part only.
            task.share = None if users else share
            task.total += total
            self._tasks[what] = task, users + 1
        try:
            yield task
        finally:
            with self._lock:
                _, users = self._tasks[what]
                if users > 1:
                    self._tasks[what] = task, users - 1
                else:
                    del self._tasks[what]

    def warn(self, sentence: str) -> None:
        """Tell whoever looks, and the process's log."""
        logger().warning("warning", message=sentence)
        self.warnings.append(sentence)

    def __str__(self) -> str:
        """Everything on one line, in the order in which it began; empty when nothing is being done."""
        with self._lock:
            return "; ".join(str(task) for task, _ in self._tasks.values())

    @property
    def first(self) -> ActivityTask | None:
        """What began before the others, which may be parts of it."""
        with self._lock:
            return next((task for task, _ in self._tasks.values()), None)


@contextmanager
def report_activity(
    activity: Activity, tell: Callable[[str], None], every_s: float = REPORT_INTERVAL_S, *, idle: bool = False
) -> Iterator[None]:
    """Tell from a thread what is being done, every so many seconds, and of warnings soon; `idle`: also that nothing is."""
    over = threading.Event()

    def watch() -> None:
        said = 0
        latest = time.monotonic()
        while not over.wait(min(_CHECK_INTERVAL_S, every_s)):
            for sentence in activity.warnings[said:]:
                tell(f"warning: {sentence}")
            said = len(activity.warnings)
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
    """Minutes and seconds, and hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
