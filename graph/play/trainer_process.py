"""The trainer as seen from play: one process, or several that make an update together, met only in the log.

Guarantees: it is started by module name, never imported; it ends with its parent, and its processes end with each other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from events.facts.digests import SHORT
from events.facts.errors import TrainerError
from events.facts.fact import Fact
from events.facts.log import Log
from events.facts.streams import policy_stream
from events.facts.trial_facts import TrialLearned
from events.facts.types import PolicyProbed, PolicyUpdated
from events.facts.values import Digest
from events.process.activity import Activity, format_duration
from events.process.child_processes import end_processes, last_words, start_process
from events.text.logging import logger
from events.text.safe_text import one_line
from graph.settings.config import LearnSettings

FactT = TypeVar("FactT", bound=Fact)

POLL_S = 0.03
"""Seconds between looks at the log."""
GRACE_S = 5.0
"""Seconds that processes get to end after SIGTERM, before SIGKILL."""
PROGRESS_FILE: Final = "trainer.progress"
"""File of a run in which its trainer writes every second, in a line for people, what it does."""
STALE_AFTER_S: Final = 15.0
"""Seconds after which that line is shown as old."""
WARN_AFTER_S: Final = 300.0
"""Seconds without a new line after which play warns."""
ACCELERATE_ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    "none": {},
    "zero2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"},
    "zero3": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"},
}
"""By `learn.shard`: the environment variables that `accelerate launch` would set, too."""


class TrainerProcess:
    """Runs `python -m trainer.run RUN --follow` and waits for its updates."""

    def __init__(self, folder: Path, log: Log, settings: LearnSettings, activity: Activity | None = None) -> None:
        self._folder = folder
        self._log = log
        self._settings = settings
        self._activity = activity or Activity()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._output = folder / "trainer.out"
        self._output_start = 0
        """Where this trainer's output begins in the file, in bytes."""

    def start(self) -> None:
        """Start the trainer's processes, in sessions of their own so that Ctrl-C reaches them through this process only."""
        command = [sys.executable, "-m", "trainer.run", str(self._folder), "--follow", "--parent", str(os.getpid())]
        with self._output.open("ab") as output:
            self._output_start = output.tell()
            for environment in self._environments():
                process = start_process(command, output, environment)
                self._processes.append(process)
                logger().info("trainer_started", pid=process.pid)

    def _environments(self) -> Iterator[dict[str, str]]:
        """The environment variables of each process, as launchers such as torchrun set them."""
        learn = self._settings
        devices = {"CUDA_VISIBLE_DEVICES": learn.devices} if learn.devices else {}
        if learn.processes == 1:
            yield devices
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(learn.processes)}
        for rank in map(str, range(learn.processes)):
            yield {**devices, **shared, **ACCELERATE_ENVIRONMENT[learn.shard], "RANK": rank, "LOCAL_RANK": rank}

    @property
    def _alive(self) -> bool:
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    async def wait_for_update(self, policy: str, iteration: int) -> Digest:
        """Wait for a policy's update from an iteration; the new weights' digest. TrainerError if the trainer ends before."""
        learned = f"learned from iteration {iteration}"
        return (await self._wait_for(policy, PolicyUpdated, lambda fact: fact.iteration == iteration, learned)).digest

    async def wait_for_trial(self, policy: str, position: int) -> TrialLearned:
        """Wait until a student was trained in the trial that began at a position; TrainerError if the trainer ends before."""
        return await self._wait_for(policy, TrialLearned, lambda fact: fact.of == position, "trained the student of a trial")

    async def wait_for_probe(self, policy: str, digest: Digest) -> PolicyProbed:
        """Wait for the trainer's logprobs of the probe under weights of a policy; TrainerError if the trainer ends before."""
        probed = f"probed the weights {digest[:SHORT]}"
        return await self._wait_for(policy, PolicyProbed, lambda fact: fact.digest == digest, probed)

    async def _wait_for(self, policy: str, kind: type[FactT], matches: Callable[[FactT], bool], what: str) -> FactT:
        warned = time.monotonic()
        waiting = self._activity.task("waiting for the trainer", note=lambda: last_progress(self._folder), phase="learning")
        with waiting, closing(self._log.subscribe()) as subscription:
            while True:
                # Before the log is read: a trainer that appends and then ends is not missed.
                alive = self._alive
                for event in self._log.read(policy_stream(policy)):
                    if isinstance(event.fact, kind) and matches(event.fact):
                        return event.fact
                if not alive:
                    logger().error("trainer_ended", codes=[process.poll() for process in self._processes])
                    raise TrainerError(f"The trainer ended before it {what}: {self._last_words()}.")
                while not subscription.wait(0) and self._alive:
                    await asyncio.sleep(POLL_S)
                    if time.monotonic() - warned > WARN_AFTER_S:
                        warned = time.monotonic()
                        self._warn_if_silent()

    def _warn_if_silent(self) -> None:
        """Warn of a trainer that runs but writes nothing, as one does that was stopped or waits for memory."""
        age = seconds_silent(self._folder)
        if age is None or age > WARN_AFTER_S:
            since = "since it was started" if age is None else f"for {format_duration(age)}"
            pids = ", ".join(str(process.pid) for process in self._processes)
            self._activity.warn(
                f"The trainer (process {pids}) has said nothing {since}, and is waited for; see whether it is stopped or the"
                f" machine is out of memory, and what is in {self._folder / 'trainer.log'}."
            )

    def stop(self) -> None:
        """End the processes. An update that is not committed yet is computed again by the next trainer."""
        end_processes(self._processes, GRACE_S)

    def _last_words(self) -> str:
        codes = [code for process in self._processes if (code := process.poll()) is not None]
        return last_words(self._output, self._output_start, min(codes, default=0))


def seconds_silent(folder: Path) -> float | None:
    """Seconds since the trainer of a run wrote its progress; None if it never did."""
    try:
        return max(0.0, time.time() - (folder / PROGRESS_FILE).stat().st_mtime)
    except OSError:
        return None


def last_progress(folder: Path) -> str:
    """The progress line that the trainer of a run wrote last, marked if it is old; empty if there is none."""
    age = seconds_silent(folder)
    try:
        progress = one_line((folder / PROGRESS_FILE).read_text(errors="replace"), 200)
    except OSError:
        progress = ""
    if age is not None and age > STALE_AFTER_S:
        return f"it has said nothing for {format_duration(age)}" + f", and last: {progress}" * bool(progress)
    return progress
