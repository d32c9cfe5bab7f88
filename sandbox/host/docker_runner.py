"""Runs jobs in warm Docker containers, one fork server each: the `Runner` that everything real uses.

Law: infrastructure raises, programs return. Calls take turns, and nothing waits in line but the callers with their own jobs. A
job whose worker is lost runs once more, alone, on another one; what is undecided then is an error and never an execution.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING

from events.facts.errors import SandboxError
from events.facts.values import Provenance
from events.text.logging import logger
from sandbox.engine import engine
from sandbox.host.pool import Pool
from sandbox.host.stream import ContainerLost
from sandbox.runner import Job, JobResult, Limits

if TYPE_CHECKING:
    import docker

MAX_BATCH = 64
"""Jobs that a worker is given at once."""
TARGET_BATCH_SECONDS = 0.2
"""How long a batch should take, so that calls with quick jobs need not wait for those with slow ones."""


class DockerRunner:
    """Runs the jobs of all concurrent calls of `run` on a pool of warm workers, which are started when they are needed."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int | None = None,
        run: str = "adhoc",
        runtime: str = "",
        image: str = "",
        connect: Callable[[engine.Notify], docker.DockerClient] = engine.connect,
        say: engine.Notify = engine.no_message,
    ) -> None:
        """Nothing starts yet.

        Args:
            limits: what one job may use.
            workers: containers at most; as many as there are cores by default.
            run: name of the run, for the containers' labels.
            runtime: what starts containers, by the engine's name for it; empty for the engine's default.
            image: id of an image that the engine has; empty for the one that belongs to this version of the code.
            connect: gives a client of the engine to use, starting that engine if need be.
            say: is told what takes long: starting an engine, building the image.
        """
        self._limits = limits or Limits()
        self._size = workers or len(os.sched_getaffinity(0))
        self._pool = Pool(self._limits, run=run, runtime=runtime, image=image, connect=connect, say=say)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="sandbox")
        atexit.register(self._close)

    @property
    def provenance(self) -> Provenance:
        """Image digest and limits in force; connects to the engine if that has not happened yet."""
        limits = {name: float(value) for name, value in self._limits.model_dump().items()}
        return Provenance(image=self._pool.image, limits=limits)

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        """Run the jobs, spread over the workers, and return their executions in the same order.

        Raises:
            SandboxError: the engine or a container failed and the jobs could not be run elsewhere.
        """
        call = _Batches(jobs, self._size)

        async def wait_in_line() -> None:
            while batch := call.take():
                call.put(batch, await self._in_line(jobs[batch.start : batch.stop]))

        # The threads serve first come first served, and a call has two batches a worker in line at most (one runs, one waits):
        # so calls take turns, whatever their sizes.
        places = [asyncio.ensure_future(wait_in_line()) for _ in range(min(2 * self._size, len(jobs)))]
        try:
            await asyncio.gather(*places)
        finally:
            for place in places:
                place.cancel()
        return [call.executions[number] for number in range(len(jobs))]

    async def close(self) -> None:
        """Remove every container this runner made. Safe to call twice."""
        await asyncio.to_thread(self._close)

    def _in_line(self, jobs: Sequence[Job]) -> asyncio.Future[list[JobResult]]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._threads, self._serve, jobs)
        except RuntimeError as error:
            raise SandboxError("The sandbox is closed; make a new runner.") from error

    def _serve(self, jobs: Sequence[Job]) -> list[JobResult]:
        done: list[JobResult] = []
        while len(done) < len(jobs):
            try:
                self._play(jobs[len(done) :], done)
            except ContainerLost as lost:
                logger().warning("job_repeated", why=str(lost))
                done.append(self._again(jobs[len(done)], lost))
        return done

    def _again(self, job: Job, first: ContainerLost) -> JobResult:
        """Run a job alone whose worker was lost under it."""
        done: list[JobResult] = []
        try:
            self._play([job], done)
        except ContainerLost as second:
            name = hashlib.sha256(job.source.encode()).hexdigest()[:12]
            raise SandboxError(
                f"Two workers were lost under one program, so nothing is known of it (SHA-256 {name}; {first}; {second}); "
                "look at `python -m sandbox.engine status`, then resume."
            ) from second
        return done[0]

    def _play(self, jobs: Sequence[Job], done: list[JobResult]) -> None:
        """Append executions to `done` while one worker lives and is fit, and has the hash seed that is asked for."""
        seed = jobs[0].hash_seed
        with self._pool.lend(seed) as worker:
            for execution in worker.play([*takewhile(lambda job: job.hash_seed == seed, jobs)]):
                done.append(execution)  # noqa: PERF402  # what is done stays done when the worker is lost

    def _close(self) -> None:
        self._pool.close()
        self._threads.shutdown()
        atexit.unregister(self._close)


class _Batches:
    """The jobs of one call of `run`, handed out in batches that are as large as its jobs are quick."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.executions: dict[int, JobResult] = {}
        self._count = len(jobs)
        self._next = 0
        self._workers = workers
        self._largest = 1

    def take(self) -> range:
        """The next batch, empty at the end. Towards it batches get smaller, so that all workers end at the same time."""
        size = max(1, min(self._largest, (self._count - self._next) // (2 * self._workers)))
        batch = range(self._next, min(self._next + size, self._count))
        self._next = batch.stop
        return batch

    def put(self, batch: range, executions: Sequence[JobResult]) -> None:
        """Note what came of a batch."""
        self.executions.update(zip(batch, executions, strict=True))
        slowest = max(execution.seconds for execution in executions)
        self._largest = min(MAX_BATCH, int(TARGET_BATCH_SECONDS / slowest)) if slowest else MAX_BATCH
