"""Runs jobs in warm Docker containers, one fork server each: the `Runner` that everything real uses.

Law: infrastructure raises, programs return. A job whose worker dies runs once more, alone, on a new worker; only if it
kills that one too, while a harmless job lives, is that a fact about the program. Never anything but containers.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from events.errors import SandboxError
from events.values import Provenance
from sandbox import engine, image_build, owner
from sandbox.confinement import require_runtime
from sandbox.runner import Execution, Job, Limits, Run
from sandbox.stream import ContainerLost
from sandbox.worker import Worker

if TYPE_CHECKING:
    import docker

LARGEST_BATCH = 16
"""Jobs that a worker is given at once; more would let one slow batch keep the others waiting."""
_HARMLESS = Job(source="def f():\n    return 1\n", inputs=("",))


class DockerRunner:
    """A pool of warm workers, started when they are needed and shared by all concurrent calls of `run`."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int | None = None,
        run: str = "adhoc",
        runtime: str = "",
        connect: Callable[[engine.Say], docker.DockerClient] = engine.connect,
        say: engine.Say = engine.quiet,
    ) -> None:
        """Nothing starts yet.

        Args:
            limits: what one job may use.
            workers: containers at most; as many as there are cores by default.
            run: name of the run, for the containers' labels.
            runtime: what starts containers, by the engine's name for it; empty for the engine's default.
            connect: gives a client of the engine to use, starting that engine if need be.
            say: is told what takes long: starting an engine, building the image.
        """
        self._limits = limits or Limits()
        self._size = workers or len(os.sched_getaffinity(0))
        self._run = run
        self._runtime = runtime
        self._connect = connect
        self._say = say
        self._lock = threading.Lock()
        self._client: docker.DockerClient | None = None
        self._image = ""
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="sandbox")
        atexit.register(self._close)

    @property
    def provenance(self) -> Provenance:
        """Image digest and limits in force; connects to the engine if that has not happened yet."""
        self._ready()
        limits = {name: float(value) for name, value in self._limits.model_dump().items()}
        return Provenance(image=self._image, limits=limits)

    async def run(self, jobs: Sequence[Job]) -> list[Execution]:
        """Run the jobs, spread over the workers, and return their executions in the same order.

        Raises:
            SandboxError: the engine or a container failed and the jobs could not be run elsewhere.
        """
        if self._closed:
            raise SandboxError("This DockerRunner is closed; make a new one.")
        size = max(1, min(LARGEST_BATCH, len(jobs) // (2 * self._size)))
        loop = asyncio.get_running_loop()
        batches = [
            loop.run_in_executor(self._threads, self._serve, jobs[start : start + size]) for start in range(0, len(jobs), size)
        ]
        try:
            return [execution for batch in await asyncio.gather(*batches) for execution in batch]
        finally:
            for batch in batches:
                batch.cancel()

    async def close(self) -> None:
        """Remove every container this runner made. Safe to call twice."""
        await asyncio.to_thread(self._close)

    def _serve(self, jobs: Sequence[Job]) -> list[Execution]:
        done: list[Execution] = []
        while len(done) < len(jobs):
            try:
                self._play(jobs[len(done) :], done)
            except ContainerLost as lost:
                done.append(self._again(jobs[len(done)], lost))
        return done

    def _again(self, job: Job, lost: ContainerLost) -> Execution:
        """Run a job alone whose worker died under it."""
        done: list[Execution] = []
        try:
            self._play([job], done)
            return done[0]
        except ContainerLost as error:
            lost = error
        try:
            self._play([_HARMLESS], done)
        except ContainerLost as error:
            raise SandboxError(
                f"Sandbox workers keep dying ({error}); look at `python -m sandbox.engine status`, then resume."
            ) from error
        if done[0].runs[0].status != "ok":
            name = hashlib.sha256(job.source.encode()).hexdigest()[:12]
            raise SandboxError(f"The worker of job {name} died twice ({lost}), and a harmless job fails; then resume.")
        died = Run(status="exited", detail=f"killed its worker: {lost}"[:200])
        return Execution(runs=(died,) * len(job.inputs), seconds=self._limits.wall_seconds)

    def _play(self, jobs: Sequence[Job], done: list[Execution]) -> None:
        """Append executions to `done` while one worker lives and is clean."""
        worker = self._take()
        keep = False
        try:
            for execution in worker.play(jobs):
                done.append(execution)  # noqa: PERF402  # what is done stays done when the worker dies
            keep = worker.clean
        finally:
            self._give_back(worker, keep)

    def _take(self) -> Worker:
        client = self._ready()
        with self._lock:
            if self._closed:
                raise SandboxError("The sandbox was closed while jobs were waiting.")
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker
        import docker
        import requests

        try:
            worker = Worker(client, self._image, self._limits, self._run, self._runtime)
        except (docker.errors.DockerException, requests.RequestException, OSError, ContainerLost) as error:
            self._forget()
            raise SandboxError(
                f"A sandbox container did not start: {str(error)[:300]}; "
                "check the engine with `python -m sandbox.engine up`, then resume."
            ) from error
        with self._lock:
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: Worker, keep: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = keep and not self._closed
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.close()

    def _ready(self) -> docker.DockerClient:
        """The engine's client, with the image there and dead owners' containers gone."""
        with self._lock:
            if self._client is None:
                client = self._connect(self._say)
                require_runtime(client, self._runtime)
                self._image = image_build.ensure(client, self._say)
                owner.remove_orphans(client)
                self._client = client
            return self._client

    def _forget(self) -> None:
        """Connect afresh next time, since the engine may have been replaced."""
        with self._lock:
            self._client = None

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        atexit.unregister(self._close)
