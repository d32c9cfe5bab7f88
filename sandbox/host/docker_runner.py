"""The `Runner` that plays and evaluates: runs jobs in warm Docker containers, each with a fork server.

Guarantees:
- Concurrent calls take turns, whatever their sizes.
- A job whose worker is lost runs once more, alone, on another one. If that is lost too, it is an error and never a result.
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
"""Most jobs that a worker is sent at once."""
TARGET_BATCH_SECONDS = 0.2
"""Wall-clock time that a batch should take, so that calls with quick jobs do not wait long for those with slow ones."""


class DockerRunner:
    """Runs the jobs of all concurrent calls of `run` on a pool of warm workers, which start when they are needed."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int | None = None,
        run: str = "adhoc",
        runtime: str = "",
        image: str = "",
        connect: Callable[[engine.Notify], docker.DockerClient] = engine.connect,
        notify: engine.Notify = engine.no_message,
    ) -> None:
        """Nothing starts yet.

        Args:
            limits: what one job may use.
            workers: most containers; by default one per core.
            run: name of the run, for the containers' labels.
            runtime: OCI runtime by the engine's name for it; empty for the engine's default.
            image: id of an image that the engine has; empty for the image of this version of the code.
            connect: returns a client of the engine, and starts the engine if necessary.
            notify: progress callback for what takes long: starting an engine, building the image.
        """
        self._limits = limits or Limits()
        self._size = workers or len(os.sched_getaffinity(0))
        self._pool = Pool(self._limits, run=run, runtime=runtime, image=image, connect=connect, notify=notify)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="sandbox")
        atexit.register(self._close)

    @property
    def provenance(self) -> Provenance:
        """Image digest and limits in force; connects to the engine if that has not happened yet."""
        limits = {name: float(value) for name, value in self._limits.model_dump().items()}
        return Provenance(image=self._pool.image, limits=limits)

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        """Run the jobs, spread over the workers, and return their results in the same order; see `Runner.run`."""
        batches = _Batches(jobs, self._size)

        async def run_batches() -> None:
            while batch := batches.next():
                batches.add_results(batch, await self._submit(jobs[batch.start : batch.stop]))

        # The thread pool is first come, first served, and a call has at most two batches per worker in its queue (one runs,
        # one waits): so calls take turns, whatever their sizes.
        tasks = [asyncio.ensure_future(run_batches()) for _ in range(min(2 * self._size, len(jobs)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [batches.results[number] for number in range(len(jobs))]

    async def close(self) -> None:
        """Remove every container this runner made. Safe to call twice."""
        await asyncio.to_thread(self._close)

    def _submit(self, jobs: Sequence[Job]) -> asyncio.Future[list[JobResult]]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._threads, self._run_batch, jobs)
        except RuntimeError as error:
            raise SandboxError("The sandbox is closed; make a new runner.") from error

    def _run_batch(self, jobs: Sequence[Job]) -> list[JobResult]:
        done: list[JobResult] = []
        while len(done) < len(jobs):
            try:
                self._run_on_worker(jobs[len(done) :], done)
            except ContainerLost as lost:
                logger().warning("job_repeated", why=str(lost))
                done.append(self._retry(jobs[len(done)], lost))
        return done

    def _retry(self, job: Job, first: ContainerLost) -> JobResult:
        done: list[JobResult] = []
        try:
            self._run_on_worker([job], done)
        except ContainerLost as second:
            name = hashlib.sha256(job.source.encode()).hexdigest()[:12]
            raise SandboxError(
                f"Two workers were lost while they ran one program, which has no result (SHA-256 {name}; {first}; {second}); "
                "look at `gasp engine status`, then resume."
            ) from second
        return done[0]

    def _run_on_worker(self, jobs: Sequence[Job], done: list[JobResult]) -> None:
        """Append results to `done` as long as one worker is alive and fit and jobs have the same hash seed."""
        seed = jobs[0].hash_seed
        with self._pool.lend(seed) as worker:
            for result in worker.run(list(takewhile(lambda job: job.hash_seed == seed, jobs))):
                done.append(result)  # noqa: PERF402  # what is done stays done when the worker is lost

    def _close(self) -> None:
        self._pool.close()
        self._threads.shutdown()
        atexit.unregister(self._close)


class _Batches:
    """Splits the jobs of one call of `run` into batches: the quicker its jobs, the larger the batches."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.results: dict[int, JobResult] = {}
        self._count = len(jobs)
        self._next = 0
        self._workers = workers
        self._largest = 1

    def next(self) -> range:
        """The next batch, empty after the last. Batches shrink towards the end, so that all workers end at the same time."""
        # At most half of each worker's share of what is left.
        size = max(1, min(self._largest, (self._count - self._next) // (2 * self._workers)))
        batch = range(self._next, min(self._next + size, self._count))
        self._next = batch.stop
        return batch

    def add_results(self, batch: range, results: Sequence[JobResult]) -> None:
        self.results.update(zip(batch, results, strict=True))
        slowest = max(result.seconds for result in results)
        self._largest = min(MAX_BATCH, int(TARGET_BATCH_SECONDS / slowest)) if slowest else MAX_BATCH
