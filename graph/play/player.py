"""A player that joined a run: plays shares of whatever the log says is being played, and appends nothing else.

Guarantees: it samples only with weights that it has loaded itself and whose logprobs are those that the trainer recorded.
Not responsible for: opening iterations, delivering weights, ending the run; the coordinator does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from events.facts.errors import BadInput, ModelError
from events.facts.streams import RUN
from events.facts.types import IterationFinished, IterationStarted, PolicyServed
from events.facts.values import Digest, Role
from events.text.logging import logger
from graph.play.iterations import Play
from graph.play.shares import POLL_S, Share, ShareBoard

_KINDS: Final = frozenset({"iteration_started", "iteration_finished", "policy_served", "run_finished", "run_resumed"})


@dataclass
class OpenWork:
    """What the log says is being played: shares of an iteration or of evaluations, and with which weights."""

    version: int = -1
    """Version of the run's stream that says so."""
    finished: bool = False
    """Whether the run is finished."""
    policies: Mapping[Role, Digest] = field(default_factory=dict)
    board: ShareBoard | None = None
    """Its shares; None where nothing is to be played."""


@dataclass
class Player:
    """Plays shares of a run until it is finished."""

    play: Play
    _work: OpenWork = field(default_factory=OpenWork)

    async def run(self) -> None:
        """Play what is free, wait for more, and return when the run is finished; a GaspError says why it cannot go on."""
        logger().info("player_ready")
        while not self._look().finished:
            if not await self._play_free():
                with self.play.scheduler.activity.task("waiting for a share to play"):
                    await asyncio.sleep(2 * POLL_S)

    async def _play_free(self) -> bool:
        """Play one share of what is open, and return whether there was one."""
        work = self._work
        if work.board is None or not work.board.open():
            return False
        assert self.play.share_player is not None
        try:
            await self.play.weights.load_probed(work.policies)
            return await self.play.share_player.play_free(work.board)
        except (BadInput, ModelError) as error:
            if self.play.log.version(RUN) == work.version:
                raise
            # The others have gone on meanwhile, and these weights may be gone, or servers have others.
            logger().info("weights_missed", reason=str(error))
            return True

    def _look(self) -> OpenWork:
        """What is being played now."""
        log, play = self.play.log, self.play
        if (version := log.version(RUN)) == self._work.version:
            return self._work
        facts = [event.fact for event in log.read(RUN, kinds=_KINDS)]
        played = sum(isinstance(fact, IterationFinished) for fact in facts)
        started = [fact for fact in facts if isinstance(fact, IterationStarted)]
        served = [fact for fact in facts if isinstance(fact, PolicyServed) and fact.role == "student"]
        ends = [fact.kind for fact in facts if fact.kind in ("run_finished", "run_resumed")]
        self._work = OpenWork(version, ends[-1:] == ["run_finished"])
        shares: Sequence[Share] = ()
        if len(started) > played:
            self._work.policies, shares = started[-1].policies, play.iteration_shares(played + 1)
        elif served:
            self._work.policies = {"student": served[-1].policy}
            due = self._evaluated(played, served[-1].policy)
            shares = [share for iteration in due for share in play.evaluations.open_shares(iteration)]
        if shares:
            self._work.board = ShareBoard(log, shares)
        return self._work

    def _evaluated(self, played: int, student: Digest) -> list[int]:
        """The iterations after which these weights of the student are evaluated now."""
        play = self.play
        digests = {0: play.weights.digests["student"], **play.weights.updates(play.config.policy_of["student"])}
        learned = range(max(0, played - play.config.learn.staleness), played + 1)
        return [iteration for iteration in learned if digests.get(iteration) == student and play.evaluations.is_due(iteration)]
