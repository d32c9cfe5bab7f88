"""Shares: parts of an iteration or of an evaluation, each played by whoever has claimed it.

A share is played in lockstep, and what comes out depends on the seed, on the log before the iteration and on the share's own
streams, whoever plays it and whatever the other shares do.

Guarantees: a share is played to its end, whichever players die or stop; a player that finds another in its share leaves it.
Not responsible for: what is played (`graph.play.iterations`); recording it once (`graph.play.player_log`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from events.facts.errors import Conflict
from events.facts.log import Event, Log
from events.facts.streams import is_evaluation
from events.process.activity import Activity
from events.projections.players import OBSERVED_PLAYER
from events.stores.claims import Claims
from events.text.logging import logger
from graph.play.context import NodeContext, accepted_in

END_KINDS: Final = frozenset({"episode_finished", "episode_failed", "attempts_verified"})
"""Kinds of events that bring a share's streams to their ends: an episode has one, an evaluation verdicts on each question."""
POLL_S: Final = 0.1
"""Seconds between looks at claims and at what other players have appended."""
RETAKE_S: Final = 5.0
"""Seconds that the coordinator leaves a share that lost its player to other players, lest the share kill it, too."""
MOST_DEATHS: Final = 3
"""Players in a row that die in a share, without any of them appending to it, before its open episodes are given up."""


@dataclass(frozen=True, eq=False)
class Share:
    """A part of an iteration's episodes, or of an evaluation's questions."""

    claim: str
    """Name of the claim on it."""
    ends: Mapping[str, int]
    """Its streams, each with the number of events of `END_KINDS` that it has at the end."""
    play: Callable[[], Awaitable[None]]
    """Plays what is missing."""
    give_up: Callable[[], None] | None = None
    """Records that its open episodes failed; None where it has none."""


@dataclass
class ShareProgress:
    """How far a share is, folded from its streams."""

    missing: dict[str, int]
    """Events that streams still need, by stream."""
    versions: dict[str, int] = field(default_factory=dict)
    latest: float = field(default_factory=time.monotonic)
    """When its last event was seen."""
    player: str = ""
    """Who appended last."""

    def apply(self, event: Event) -> None:
        """Apply an event of one of its streams."""
        if event.version <= self.versions.get(event.stream, 0):
            return
        self.versions[event.stream] = event.version
        self.latest = time.monotonic()
        self.player = event.observed.get(OBSERVED_PLAYER, self.player)
        if event.fact.kind in END_KINDS and event.stream in self.missing:
            # A failed episode may have attempts that were verified before.
            ended = event.fact.kind != "attempts_verified" or is_evaluation(event.stream)
            self.missing[event.stream] -= ended
            if not self.missing[event.stream]:
                del self.missing[event.stream]

    @property
    def length(self) -> int:
        """How many events it has."""
        return sum(self.versions.values())


class ShareBoard:
    """The shares of an iteration or of evaluations, kept up to date with the log."""

    def __init__(self, log: Log, shares: Sequence[Share]) -> None:
        self._log = log
        self._position = log.head().position
        self.progress = {share: ShareProgress(dict(share.ends)) for share in shares}
        self._share_of = {stream: progress for share, progress in self.progress.items() for stream in share.ends}
        for stream, progress in self._share_of.items():
            for event in log.read(stream):
                progress.apply(event)

    def open(self) -> dict[str, Share]:
        """The shares that have not ended, by their claims."""
        for event in self._log.read(after=self._position):
            self._position = event.position
            if (progress := self._share_of.get(event.stream)) is not None:
                progress.apply(event)
        return {share.claim: share for share, progress in self.progress.items() if progress.missing}


@dataclass
class _Lost:
    """A share whose claim fell before it ended."""

    deaths: int
    length: int
    """How many events it had."""
    at: float
    """When that was seen."""


@dataclass
class SharePlayer:
    """Plays shares, as one of the players of a run."""

    log: Log
    claims: Claims
    activity: Activity
    patience_s: float

    async def play_free(self, board: ShareBoard) -> bool:
        """Play the first share that is open and free, and return whether there was one that no other player took part in."""
        shares = board.open()
        claim = self.claims.take(*shares)
        if claim is None:
            return False
        return await self._play(shares[claim], claim)

    async def play_all(self, board: ShareBoard) -> None:
        """Play shares until all have ended, by this player or others: the barrier, which the coordinator waits at.

        A share whose player does nothing for `patience_s` is played without its claim; its late player meets a version or a
        key, and leaves.
        """
        claimed: dict[str, float] = {}
        lost: dict[str, _Lost] = {}
        while shares := board.open():
            played = False
            for claim, share in shares.items():
                if self.claims.take(claim) is None:
                    since = claimed.setdefault(claim, time.monotonic())
                    played |= await self._take_over(share, board, since)
                elif claim in board.open():
                    if claimed.pop(claim, None) is not None:
                        lost[claim] = self._lost(claim, board.progress[share], lost.get(claim))
                    played |= await self._play_claimed(share, lost.get(claim))
                else:
                    self.claims.release(claim)
            if not played:
                with self.activity.task(f"waiting for other players, who play {', '.join(shares)}"):
                    await asyncio.sleep(POLL_S)

    async def _take_over(self, share: Share, board: ShareBoard, since: float) -> bool:
        """Play a share that another player has claimed since then, if it is silent; whether this was its only player."""
        progress = board.progress[share]
        # What was read before this player played another share may be old.
        if not self._is_silent(progress, since) or share.claim not in board.open() or not self._is_silent(progress, since):
            return False
        self.activity.warn(
            f"The player {progress.player or 'of a share'} has appended nothing to {share.claim} for"
            f" {self.patience_s:.0f} s, which is now played here; see whether its machine still runs."
        )
        return await self._play(share)

    def _is_silent(self, progress: ShareProgress, since: float) -> bool:
        """Whether a share that others have claimed since then has got no event for `patience_s`."""
        return time.monotonic() - max(since, progress.latest) > self.patience_s

    def _lost(self, claim: str, progress: ShareProgress, before: _Lost | None) -> _Lost:
        """Count the players that died in a share; those that left it, or died later than others, have appended something."""
        deaths = before.deaths + 1 if before is not None and before.length == progress.length else 1
        self.activity.warn(
            f"A player ({progress.player or 'which appended nothing'}) ended before its {claim} did; another one goes on. If"
            " nobody stopped it, see its log in players/ and whether the kernel killed it for want of memory."
        )
        return _Lost(deaths, progress.length, time.monotonic())

    async def _play_claimed(self, share: Share, lost: _Lost | None) -> bool:
        """Play a share whose claim this player has taken; whether this was its only player.

        A share that has killed too many players is given up instead, and one that has just lost a player is left to others.
        """
        if lost is not None and lost.deaths >= MOST_DEATHS and share.give_up is not None:
            share.give_up()
        elif lost is None or time.monotonic() - lost.at > RETAKE_S:
            return await self._play(share, share.claim)
        self.claims.release(share.claim)
        return False

    async def _play(self, share: Share, claim: str | None = None) -> bool:
        """Play a share, and return whether this was its only player."""
        try:
            await share.play()
            return True
        except Conflict as conflict:
            logger().info("share_left", share=share.claim, reason=str(conflict))
            return False
        finally:
            if claim is not None:
                self.claims.release(claim)


def cross_share_repeats(context: NodeContext, streams: Sequence[str], shares: int) -> int:
    """How many questions a share accepted that repeat one of a share before it, which it could not know."""
    repeats, before = 0, context.novelty.empty()
    for number in range(shares):
        own = list(accepted_in(context.log, streams[number::shares]))
        repeats += sum(not before.is_novel(question, context.similarity) for question in own)
        before.add(*own)
    return repeats
