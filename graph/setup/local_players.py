"""Players as processes of this machine: each is the command of a player, with GPUs of its own where there are any.

Guarantees: none outlives the process that started it; what they print is in the run's folder `players/`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from events.facts.errors import BadInput
from events.process.child_processes import end_processes, last_words, start_process
from events.text.phrases import counted
from graph.settings.config import Config
from graph.setup.player_supervisor import GRACE_S, PlayerEnd
from roles.serving.command import visible_gpus


def gpus_of_player(config: Config) -> int:
    """GPUs that a player needs where it has any."""
    serve = config.serve
    if serve.backend == "transformers":
        return 1
    return 0 if serve.urls else serve.replicas * serve.tensor_parallel


def gpus_for_players(config: Config, count: int) -> list[str]:
    """`CUDA_VISIBLE_DEVICES` of each player on this machine, whose first GPUs are the coordinator's; empty without GPUs.

    Raises:
        BadInput: there are too few, or the settings name those of every process.
    """
    visible, each = visible_gpus(), gpus_of_player(config)
    if not visible or not each:
        return []
    if config.serve.devices:
        raise BadInput("With serve.devices all players of this machine would use the same GPUs; leave it empty for --players.")
    if len(visible) < (count + 1) * each:
        raise BadInput(
            f"The coordinator and {counted(count, 'player')} need {(count + 1) * each} GPUs, and there are {len(visible)};"
            " lower --players, or start players on other machines."
        )
    return [",".join(visible[number * each : (number + 1) * each]) for number in range(1, count + 1)]


class LocalPlayers:
    """Players as processes of this machine, in sessions of their own, so that Ctrl-C reaches them through this process only."""

    where = "on this machine"

    def __init__(self, count: int, folder: Path, gpus: Sequence[str]) -> None:
        self.count = count
        self.sharing_cores = 0 if gpus else count
        self._folder = folder.absolute()
        self._gpus = gpus
        self._players: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
        """Each with the place in its file at which its output begins."""

    def _file(self, number: int) -> Path:
        return self._folder / "players" / f"local-{number}.out"

    async def start(self, number: int) -> None:
        """See `PlayerLauncher.start`."""
        command = [sys.executable, "-m", "graph.run", "--plain", "--join", str(self._folder), "--parent", str(os.getpid())]
        command += ["--processes", str(1 + self.sharing_cores)]
        gpus = {"CUDA_VISIBLE_DEVICES": self._gpus[number]} if self._gpus else {}
        file = self._file(number)
        file.parent.mkdir(exist_ok=True)
        with file.open("ab") as output:
            # By this thread: the kernel ends a player when the thread that started it ends.
            process = start_process(command, output, gpus)
            self._players[number] = process, output.tell()

    async def end_of(self, number: int) -> PlayerEnd | None:
        """See `PlayerLauncher.end_of`."""
        process, start = self._players[number]
        code = process.poll()
        return None if code is None else PlayerEnd(code, last_words(self._file(number), start, code))

    async def stop(self) -> None:
        """See `PlayerLauncher.stop`."""
        await asyncio.to_thread(end_processes, [process for process, _ in self._players.values()], GRACE_S)
