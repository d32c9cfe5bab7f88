"""A run as its display needs it: summary and open episodes, kept up to date with a growing log."""

from __future__ import annotations

import math
from collections import Counter

from events.facts.log import Log
from events.facts.streams import is_episode
from events.projections.run_summary import RunSummary
from graph.play.edges import successor
from graph.play.state import EpisodeState, fold_episode
from graph.settings.config import Config, PlaySettings


class RunMonitor:
    """A run's summary and its open episodes, kept up to date with a growing log."""

    def __init__(self, log: Log, config: Config) -> None:
        self._log = log
        self._play, self._plan = config.play, config.algorithm().plan
        self.summary = RunSummary()
        self._episodes: dict[str, EpisodeState] = {}

    def update(self) -> None:
        """Apply the new events."""
        for event in self._log.read(after=self.summary.position):
            self.summary.apply(event)
            if is_episode(event.stream):
                episode = fold_episode(self._episodes.pop(event.stream, EpisodeState(stream=event.stream)), [event])
                if not episode.ended:
                    self._episodes[event.stream] = episode

    @property
    def nodes(self) -> Counter[str]:
        """Number of open episodes by the node that works on them."""
        return Counter(successor(episode, self._play, self._plan).strip("_") for episode in self._episodes.values())


def expected_iterations(summary: RunSummary, play: PlaySettings) -> int:
    """Iterations that will be played: `play.iterations`, or fewer if `play.samples` are spent before."""
    played = max(summary.samples.after)
    spent = summary.samples.after[played]
    return min(play.iterations, math.ceil(play.samples * played / spent)) if play.samples and spent else play.iterations
