"""A run as one process plays it: as its coordinator, or as a player that joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.log import Log, run_started
from events.facts.streams import RUN
from events.facts.values import Digest
from events.stores.claims import Claims, open_claims
from events.stores.raw import Store
from graph.play.player_log import PlayerLog, player_name
from graph.settings.config import Config
from graph.setup.assemble import last_served_weights
from graph.setup.model_source import PolicyWeights, SharedServers
from graph.setup.run_inputs import RunInputs

COORDINATOR: Final = "coordinator"
"""Claim of the one process that opens iterations, starts the trainer and delivers weights."""


@dataclass(frozen=True)
class Session:
    """A run that this process plays."""

    folder: Path
    config: Config
    log: Log
    inputs: RunInputs
    player: str
    """Name of this process among the players; empty where the run has one share."""
    claims: Claims | None
    """None where the run has one share."""
    joined: bool
    """Whether another process is the coordinator."""
    fetch: Callable[[Digest], None] | None = None
    """Brings weights into the folder, where that is not shared."""

    @property
    def shared_servers(self) -> SharedServers | None:
        """How this process uses the servers of `serve.urls`; None where no other player does."""
        if not self.config.serve.urls or self.claims is None:
            return None
        started = self.log.event(RUN, 1)
        assert started is not None
        return SharedServers(started.hash[:SHORT], loads=not self.joined)

    @property
    def opening_weights(self) -> dict[str, PolicyWeights]:
        """The weights of each policy, by name, that its model begins with: those served last, where they are at hand."""
        if self.joined and self.config.serve.urls:
            first = run_started(self.log).policies["student"]
            return dict.fromkeys(self.config.policy_of.values(), PolicyWeights(self.folder / "weights" / first, first))
        return last_served_weights(self.folder, self.config, self.log)


@contextmanager
def open_session(
    folder: Path,
    config: Config,
    log: Store,
    inputs: RunInputs,
    *,
    joined: bool = False,
    fetch: Callable[[Digest], None] | None = None,
) -> Iterator[Session]:
    """Take part in a run; BadInput if this process wants to be its coordinator and another one is."""
    if config.play.shares == 1:
        yield Session(folder, config, log, inputs, "", None, joined)
        return
    player = player_name()
    with closing(open_claims(log)) as claims:
        if not joined and claims.take(COORDINATOR) is None:
            raise BadInput(f"Another process coordinates the run {folder}; join it with --join, or stop that process first.")
        yield Session(folder, config, PlayerLog(log, player), inputs, player, claims, joined, fetch)
