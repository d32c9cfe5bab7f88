"""The trainer as seen from play: a process of its own, met only in the log.

Law: started by module name, never imported; what it learned is read from `PolicyUpdated`. It dies with its parent.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from events.errors import TrainerError
from events.log import Log
from events.logging import logger
from events.types import PolicyUpdated
from events.values import Digest

PERIOD = 0.03
"""Seconds between looks at the log."""


class Learner:
    """Runs `python -m trainer.run RUN --follow` and waits for its updates."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder = folder
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._output = folder / "trainer.out"

    def start(self) -> None:
        """Start the trainer in a session of its own, so that Ctrl-C reaches it through us only."""
        command = [sys.executable, "-m", "trainer.run", str(self._folder), "--follow", "--parent", str(os.getpid())]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        logger().info("trainer_started", pid=self._process.pid)

    async def updated(self, policy: str, iteration: int) -> Digest:
        """The digest that a policy has after an iteration; waits until the trainer has appended it.

        Raises:
            TrainerError: the trainer ended without having learned from the iteration.
        """
        while True:
            alive = self._process is not None and self._process.poll() is None
            updates = [event.fact for event in self._log.read(f"policy/{policy}", kinds={"policy_updated"})]
            for fact in updates:
                if isinstance(fact, PolicyUpdated) and fact.iteration == iteration:
                    return fact.digest
            if self._process is None or not alive:
                logger().error("trainer_ended", code=self._process and self._process.returncode)
                raise TrainerError(f"The trainer ended before it learned from iteration {iteration}: {self._last_words()}")
            while not self._log.changed() and self._process.poll() is None:
                await asyncio.sleep(PERIOD)

    def stop(self) -> None:
        """End the process; before its commit point nothing is lost."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        lines = self._output.read_text(errors="replace").split("\n") if self._output.exists() else []
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1][:300] if said else 'it said nothing'} (see {self._output}; then go on with --resume)"
