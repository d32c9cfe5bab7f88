"""What the option `--players` asks for, and the launcher that starts such players."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from graph.settings.config import Config
from graph.setup.local_players import LocalPlayers, gpus_for_players, gpus_of_player
from graph.setup.player_supervisor import PlayerLauncher

_PLAYERS: Final = re.compile(r"(?P<ray>ray://[^/\s]+:\d{1,5})(?:/(?P<count>\d{1,4}))?|(?P<all>\d{1,4})", re.ASCII)


@dataclass(frozen=True)
class PlayerRequest:
    """What the option `--players` asks for."""

    ray: str
    """Address of a Ray cluster, `ray://HOST:PORT`; empty: this machine."""
    count: int
    """How many players; 0: as many as shares."""


def parse_players(text: str) -> PlayerRequest:
    """Read `N`, `ray://HOST:PORT` or `ray://HOST:PORT/N`; BadInput for anything else."""
    match = _PLAYERS.fullmatch(text)
    if match is None or int(match["count"] or match["all"] or 1) == 0:
        raise BadInput(
            f"--players {text!r} is neither a number, such as 4, nor a Ray cluster, such as ray://head:10001/4; write one."
        )
    return PlayerRequest(match["ray"] or "", int(match["count"] or match["all"] or 0))


def make_launcher(request: PlayerRequest, folder: Path, config: Config, log: Path | str, weights: str | None) -> PlayerLauncher:
    """What starts the players of a run.

    Args:
        request: how many, and where.
        folder: the folder of the run, which need not be there yet.
        config: its settings.
        log: the file or the URL of its log.
        weights: URL of this process's server of weights; None: players elsewhere have the folder, too.

    Raises:
        BadInput: the run has one share, this machine has too few GPUs, or there is no such cluster.
    """
    shares = config.play.shares
    if shares == 1:
        raise BadInput("A run with one share is played by one process; start it with --set play.shares=4 to have --players.")
    if not request.ray:
        return LocalPlayers(request.count, folder, gpus_for_players(config, request.count))
    if isinstance(log, Path):
        raise BadInput(
            "Players on a Ray cluster are on several machines, and a log in SQLite on one; start the run with --log."
        )
    if weights is not None and weights.startswith(("http://0.0.0.0:", "http://127.", "http://localhost:")):
        raise BadInput(
            f"Players on other machines cannot fetch weights from {weights}; give --serve-weights this machine's address."
        )
    from graph.setup.ray_players import RayPlayers

    return RayPlayers(request.ray, request.count or shares, gpus_of_player(config), folder, log, weights)
