"""The trainer as seen from play: a process of its own, or several that make one update, met only in the log.

Law: started by module name, never imported; what it learned is read from its facts. It dies with its parent, and its
processes with each other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from events.facts.digests import SHORT
from events.facts.errors import TrainerError
from events.facts.log import Log
from events.facts.streams import policy_stream
from events.facts.types import Fact, PolicyProbed, PolicyUpdated
from events.facts.values import Digest
from events.process.activity import Activity, format_duration
from events.text.logging import logger
from events.text.safe_text import one_line
from graph.settings.config import LearnSettings

FactT = TypeVar("FactT", bound=Fact)

POLL_S = 0.03
"""Seconds between looks at the log."""
GRACE_S = 5.0
"""How long processes may take to end in order."""
PROGRESS_FILE: Final = "trainer.progress"
"""File of a run in which its trainer says every second what it does, in a line for people."""
STALE_AFTER_S: Final = 15.0
"""Seconds after which that is old."""
WARN_AFTER_S: Final = 300.0
"""Seconds after which somebody should look."""


ACCELERATE_ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    "none": {},
    "zero2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"},
    "zero3": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"},
}
"""What `accelerate launch` tells the processes of each `learn.shard`, and so do we."""


class TrainerProcess:
    """Runs `python -m trainer.run RUN --follow` and waits for its updates."""

    def __init__(self, folder: Path, log: Log, settings: LearnSettings, activity: Activity | None = None) -> None:
        self._folder = folder
        self._log = log
        self._settings = settings
        self._activity = activity or Activity()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._output = folder / "trainer.out"
        self._said_before = 0
        """Bytes of what earlier trainers of this run said."""

    def start(self) -> None:
        """Start the trainer in sessions of its own, so that Ctrl-C reaches it through us only."""
        command = [sys.executable, "-m", "trainer.run", str(self._folder), "--follow", "--parent", str(os.getpid())]
        with self._output.open("ab") as output:
            self._said_before = output.tell()
            for told in self._environments():
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, **told},
                )
                self._processes.append(process)
                logger().info("trainer_started", pid=process.pid)

    def _environments(self) -> Iterator[dict[str, str]]:
        """What each process is told of the others, as launchers do; a single one is told nothing."""
        learn = self._settings
        devices = {"CUDA_VISIBLE_DEVICES": learn.devices} if learn.devices else {}
        if learn.processes == 1:
            yield devices
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(learn.processes)}
        for rank in map(str, range(learn.processes)):
            yield {**devices, **meeting, **ACCELERATE_ENVIRONMENT[learn.shard], "RANK": rank, "LOCAL_RANK": rank}

    @property
    def _alive(self) -> bool:
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    async def updated(self, policy: str, iteration: int) -> Digest:
        """The digest that a policy has after an iteration; waits until the trainer has appended it.

        Raises:
            TrainerError: the trainer ended without having learned from the iteration.
        """
        learned = f"learned from iteration {iteration}"
        return (await self._told(policy, PolicyUpdated, lambda fact: fact.iteration == iteration, learned)).digest

    async def probed(self, policy: str, digest: Digest) -> PolicyProbed:
        """What a policy's weights say of the trainer's probe; waits until the trainer has appended it.

        Raises:
            TrainerError: the trainer ended without having probed them.
        """
        return await self._told(
            policy, PolicyProbed, lambda fact: fact.digest == digest, f"probed the weights {digest[:SHORT]}"
        )

    async def _told(self, policy: str, kind: type[FactT], wanted: Callable[[FactT], bool], what: str) -> FactT:
        with self._activity.task("waiting for the trainer", note=lambda: last_progress(self._folder)):
            return await self._awaited(policy, kind, wanted, what)

    async def _awaited(self, policy: str, kind: type[FactT], wanted: Callable[[FactT], bool], what: str) -> FactT:
        warned = time.monotonic()
        while True:
            alive = self._alive
            for event in self._log.read(policy_stream(policy)):
                if isinstance(event.fact, kind) and wanted(event.fact):
                    return event.fact
            if not alive:
                logger().error("trainer_ended", codes=[process.poll() for process in self._processes])
                raise TrainerError(f"The trainer ended before it {what}: {self._last_words()}")
            while not self._log.changed() and self._alive:
                await asyncio.sleep(POLL_S)
                if time.monotonic() - warned > WARN_AFTER_S:
                    warned = time.monotonic()
                    self._warn()

    def _warn(self) -> None:
        """Tell of a trainer that lives and says nothing, as one that was stopped does, or one that waits for memory."""
        age = seconds_silent(self._folder)
        if age is None or age > WARN_AFTER_S:
            since = "since it was started" if age is None else f"for {format_duration(age)}"
            pids = ", ".join(str(process.pid) for process in self._processes)
            self._activity.warn(
                f"The trainer (process {pids}) has said nothing {since}, and is waited for; see whether it is stopped or the"
                f" machine is out of memory, and what is in {self._folder / 'trainer.log'}"
            )

    def stop(self) -> None:
        """End the processes; before its commit point nothing is lost."""
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _last_words(self) -> str:
        """How it ended: what it said last, and which signal killed it."""
        lines = []
        if self._output.exists():
            with self._output.open("rb") as output:
                output.seek(self._said_before)
                lines = output.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        killed = next((-code for process in self._processes if (code := process.poll()) is not None and code < 0), None)
        if killed is None:
            return f"{said[-1][:300] if said else 'it said nothing'} (see {self._output})"
        why = ", as the kernel does for want of memory" * (killed == signal.SIGKILL)
        last = f"; before that it said: {said[-1][:300]} (see {self._output})" if said else ""
        return f"it was killed by signal {killed} ({signal.strsignal(killed)}){why}{last}"


def seconds_silent(folder: Path) -> float | None:
    """Seconds since the trainer of a run said what it does; None if it never did."""
    try:
        return max(0.0, time.time() - (folder / PROGRESS_FILE).stat().st_mtime)
    except OSError:
        return None


def last_progress(folder: Path) -> str:
    """What the trainer of a run said last of what it does, for people."""
    age = seconds_silent(folder)
    try:
        said = one_line((folder / PROGRESS_FILE).read_text(errors="replace"), 200)
    except OSError:
        said = ""
    if age is not None and age > STALE_AFTER_S:
        return f"it has said nothing for {format_duration(age)}" + f", and last: {said}" * bool(said)
    return said
