"""The student's completions so far, by which a run ends and evaluations are due."""

from __future__ import annotations

from events.facts.log import Log
from events.projections.run_summary import CompletionCount
from graph.settings.config import PlaySettings


class SampleBudget:
    """Counts the student's completions in a log, evaluations left out, and knows how many a run may have."""

    def __init__(self, log: Log, settings: PlaySettings) -> None:
        self._log, self._settings = log, settings
        self._count = CompletionCount()

    def spent(self, iteration: int) -> int:
        """Completions up to the end of an iteration."""
        for event in self._log.read(after=self._count.position, kinds=CompletionCount.KINDS):
            self._count.apply(event)
        return self._count.after[iteration]

    def is_last(self, iteration: int) -> bool:
        """Whether this iteration, already played, is the last."""
        settings = self._settings
        return iteration >= settings.iterations or 0 < settings.samples <= self.spent(iteration)
