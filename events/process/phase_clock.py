"""Divides the time of a process into phases: what an iteration's seconds were spent on."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final, Literal

Phase = Literal["evaluation", "sampling", "programs", "learning", "weights"]
PHASES: Final[tuple[Phase, ...]] = ("evaluation", "sampling", "programs", "learning", "weights")
"""Where several go on at once, the first of them gets the time: a sandbox that works beside sampling costs nothing."""
OTHER: Final = "other"
"""Name of the time in which none went on."""


class PhaseClock:
    """Adds up seconds by phase. Not safe to share between threads."""

    def __init__(self) -> None:
        self._active: Counter[Phase] = Counter()
        self._seconds = dict.fromkeys((*PHASES, OTHER), 0.0)
        self._since = time.monotonic()

    def begin(self, phase: Phase) -> None:
        """Count a phase as going on once more."""
        self._tick()
        self._active[phase] += 1

    def end(self, phase: Phase) -> None:
        """Count it as going on once less."""
        self._tick()
        self._active[phase] -= 1

    def lap(self) -> dict[str, float]:
        """Seconds by phase, `OTHER` included, since the last lap or since the clock was made; they add up to all of it."""
        self._tick()
        seconds = {phase: round(seconds, 3) for phase, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return seconds

    def _tick(self) -> None:
        now = time.monotonic()
        phase = next((phase for phase in PHASES if self._active[phase]), OTHER)
        self._seconds[phase] += now - self._since
        self._since = now
