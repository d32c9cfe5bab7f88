"""Players on a Ray cluster: each is an actor that runs the command of a player on a node with the GPUs it needs.

Guarantees: a player whose actor or node is lost has ended, so that another one is started; what players write comes back.
Not responsible for: recording anything once. Ray may run a task twice or never; versions and keys of the log decide.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from events.facts.errors import BadInput
from events.process.child_processes import end_processes, last_words, start_process
from events.text.safe_text import one_line
from graph.setup.player_supervisor import GRACE_S, PlayerEnd

PLACED_S: Final = 2.0
"""Seconds in which a player that has a node answers, whatever it does."""


class RayPlayer:
    """A player on a node of the cluster, as a process that ends with this one."""

    def __init__(self, arguments: list[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gasp-player-"))
        self._read: dict[Path, int] = {}
        parent = ["--runs", str(self._folder), "--parent", str(os.getpid())]
        with (self._folder / "out").open("wb") as output:
            self._process = start_process([sys.executable, "-m", "graph.run", "--plain", *arguments, *parent], output)

    def look(self) -> tuple[int | None, dict[str, bytes]]:
        """Its return code, None while it runs, and what `out`, its output, and `NAME.log` have got since the last look."""
        code, written = self._process.poll(), {}
        for path in (self._folder / "out", *self._folder.glob("*/players/*.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                written[path.name] = file.read()
                self._read[path] = file.tell()
        return code, written

    def stop(self) -> tuple[int | None, dict[str, bytes]]:
        """End it, remove what it fetched, and return a last `look`."""
        end_processes([self._process], GRACE_S)
        last = self.look()
        shutil.rmtree(self._folder, ignore_errors=True)
        return last


class RayPlayers:
    """Players on a cluster.

    Args:
        address: `ray://HOST:PORT` of its client server.
        count: how many players.
        gpus: GPUs of each, where the cluster has any.
        folder: the folder of the run.
        url: the URL of its log.
        weights: the URL of the coordinator's server of weights; None: nodes have the folder, too.

    Raises:
        BadInput: Ray is not installed, or the cluster cannot be used.
    """

    def __init__(self, address: str, count: int, gpus: int, folder: Path, url: str, weights: str | None) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise BadInput(
                "Players on a Ray cluster need Ray, which is not installed; run `pip install 'gasp[ray]'`."
            ) from error
        self._ray: Any = ray
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            raise BadInput(
                f"The Ray cluster {address} cannot be used ({one_line(str(error), 200)}); see that `ray start --head` runs"
                " there, with this version of Python and of Ray."
            ) from error
        self.count = count
        self.sharing_cores = 0
        self.where = f"on {address}"
        self._folder = folder.absolute()
        self._arguments = ["--join", url, "--weights", weights or str(self._folder)]
        self._actor = ray.remote(RayPlayer).options(
            num_cpus=1, num_gpus=gpus if ray.cluster_resources().get("GPU") else 0, scheduling_strategy="SPREAD"
        )
        self._players: dict[int, Any] = {}
        self._looks: dict[int, Any] = {}
        """Calls of `look` that have not been answered."""
        self._starts: dict[int, int] = {}
        """Where the output of each begins in its file."""

    def _file(self, number: int) -> Path:
        return self._folder / "players" / f"ray-{number}.out"

    async def start(self, number: int) -> None:
        """See `PlayerLauncher.start`. Ray starts it once there is a node for it."""
        file = self._file(number)
        file.parent.mkdir(exist_ok=True)
        self._starts[number] = file.stat().st_size if file.exists() else 0
        self._players[number] = await asyncio.to_thread(self._actor.remote, self._arguments)

    async def end_of(self, number: int) -> PlayerEnd | None:
        """See `PlayerLauncher.end_of`."""
        return await asyncio.to_thread(self._look, number)

    def _look(self, number: int) -> PlayerEnd | None:
        if number not in self._looks:
            self._looks[number] = self._players[number].look.remote()
        call = self._looks[number]
        # A player that waits for a node does not answer.
        if not self._ray.wait([call], timeout=0)[0]:
            return None
        del self._looks[number]
        try:
            code, written = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._release(number)
            return PlayerEnd(1, f"Ray lost it ({one_line(str(error), 200)}).")
        self._gather(number, written)
        if code is None:
            return None
        self._release(number)
        return PlayerEnd(code, last_words(self._file(number), self._starts[number], code))

    async def stop(self) -> None:
        """See `PlayerLauncher.stop`."""
        await asyncio.to_thread(self._stop)

    def _gather(self, number: int, written: dict[str, bytes]) -> None:
        for name, content in written.items():
            file = self._file(number) if name == "out" else self._folder / "players" / Path(name).name
            with file.open("ab") as gathered:
                gathered.write(content)

    def _release(self, *numbers: int) -> None:
        """End players, gather what they wrote last, and give back what they hold on their nodes."""
        players = {number: self._players.pop(number) for number in numbers}
        calls = {number: [player.stop.remote()] for number, player in players.items()}
        looks = {number: self._looks.pop(number) for number in numbers if number in self._looks}
        answered = self._ray.wait([*looks.values()], num_returns=len(looks), timeout=PLACED_S)[0] if looks else []
        for number, call in looks.items():
            # One that does not answer waits for a node, and has written nothing.
            calls[number] = [call, *calls[number]] if call in answered else []
        deadline = time.monotonic() + 2 * GRACE_S
        for number, player in players.items():
            # Nor does one that is lost write any more.
            with suppress(self._ray.exceptions.RayError):
                for call in calls[number]:
                    self._gather(number, self._ray.get(call, timeout=max(0.0, deadline - time.monotonic()))[1])
            self._ray.kill(player)

    def _stop(self) -> None:
        self._release(*self._players)
        self._ray.shutdown()
