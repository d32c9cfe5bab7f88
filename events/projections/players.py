"""Who plays which share of a run: figures of each player, folded from the appends that bear its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from events.facts.log import Event
from events.facts.streams import is_episode, iteration_of
from events.facts.types import AttemptsMade, EpisodeFailed, EpisodeFinished, QuestionProposed

OBSERVED_PLAYER: Final = "player"
"""Observation of appends to streams that several players may play: the name of the player."""


@dataclass
class PlayerFigures:
    """One player."""

    name: str
    share: str
    """What it plays, or played last, such as `share 2 of iteration 3`."""
    since: datetime
    """Time of its first append to that share."""
    latest: datetime
    """Time of its last append."""
    seconds: float = 0.0
    """Time between its appends to one share, all shares together."""
    tokens: int = 0
    """Completion tokens that it has sampled."""
    episodes: int = 0
    """Episodes that it has ended."""

    @property
    def speed(self) -> float | None:
        """Tokens a second; None as long as it has appended once to a share."""
        return self.tokens / self.seconds if self.seconds else None


@dataclass
class Players:
    """All players of a run, by name."""

    figures: dict[str, PlayerFigures] = field(default_factory=dict)
    _stream: str = ""
    _player: str = ""
    """Stream and player of the append that the last event belongs to."""

    def apply(self, event: Event, shares: int) -> None:
        """Apply an event of a run with so many shares. Only the first event of an append bears the player's name."""
        name = event.observed.get(OBSERVED_PLAYER, self._player if event.stream == self._stream else "")
        self._stream, self._player = event.stream, str(name)
        if not name:
            return
        share = share_name(event.stream, shares)
        player = self.figures.setdefault(self._player, PlayerFigures(self._player, share, event.time, event.time))
        if player.share == share:
            player.seconds += (event.time - player.latest).total_seconds()
        else:
            player.share, player.since = share, event.time
        player.latest = event.time
        match event.fact:
            case AttemptsMade(generation=generation) | QuestionProposed(generation=generation):
                player.tokens += generation.length
            case EpisodeFinished() | EpisodeFailed():
                player.episodes += 1


def share_name(stream: str, shares: int) -> str:
    """The share that a stream belongs to, in words."""
    if is_episode(stream):
        return f"share {int(stream.rpartition('/')[2]) % shares} of iteration {iteration_of(stream)}"
    evaluation, _, number = stream.rpartition("/")
    return f"share {number} of {evaluation}"
