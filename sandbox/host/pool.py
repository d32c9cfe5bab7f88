"""Pool of warm workers: started on demand, lent to one borrower at a time.

Guarantees: a worker that was lost, grew, or has leftovers of a program is never lent again, and its container is removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from events.facts.errors import SandboxError
from events.text.logging import logger
from sandbox.engine import engine, image_build, owner
from sandbox.host.confinement import require_runtime
from sandbox.host.stream import ContainerLost
from sandbox.host.worker import Worker
from sandbox.runner import Limits

if TYPE_CHECKING:
    import docker

MAX_START_ATTEMPTS = 3
"""A worker that is lost so many times while it starts is an error."""


class Pool:
    """The workers of one runner."""

    def __init__(
        self,
        limits: Limits,
        *,
        run: str,
        runtime: str,
        image: str,
        connect: Callable[[engine.Notify], docker.DockerClient],
        notify: engine.Notify,
    ) -> None:
        self._limits = limits
        self._run = run
        self._runtime = runtime
        self._image = image
        self._connect = connect
        self._notify = notify
        self._lock = threading.Lock()
        self._client: docker.DockerClient | None = None
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    @property
    def image(self) -> str:
        """Id of the workers' image; connects to the engine if necessary."""
        self._ready()
        return self._image

    @contextmanager
    def lend(self, hash_seed: int = 0) -> Iterator[Worker]:
        """A worker with that hash seed, for this borrower alone; SandboxError if none is idle and none can be started."""
        worker = self._take(hash_seed)
        unfit = "lost"
        try:
            yield worker
            unfit = worker.unfit
        finally:
            with self._lock:
                self._busy.discard(worker)
                keep = not unfit and not self._closed
                if keep:
                    self._idle.append(worker)
            if not keep:
                worker.close()
            if unfit:
                logger().warning("worker_replaced", container=worker.id[:12], why=unfit)

    def close(self) -> None:
        """Remove every container. Safe to call twice."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.close()

    def _take(self, hash_seed: int) -> Worker:
        client = self._ready()
        with self._lock:
            worker = next((worker for worker in reversed(self._idle) if worker.hash_seed == hash_seed), None)
            if worker is not None:
                self._idle.remove(worker)
        worker = worker or self._started(client, hash_seed)
        with self._lock:
            self._busy.add(worker)
            closed = self._closed
        if closed:
            worker.close()
            raise SandboxError("The sandbox was closed while jobs were waiting; make a new runner.")
        return worker

    def _started(self, client: docker.DockerClient, hash_seed: int) -> Worker:
        import docker
        import requests

        lost = ""
        for _ in range(MAX_START_ATTEMPTS):
            try:
                return Worker(client, self._image, self._limits, self._run, self._runtime, hash_seed)
            except ContainerLost as error:
                lost = str(error)
            except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                lost = str(error)
                break
        # The engine may have been replaced: connect afresh next time.
        with self._lock:
            self._client = None
        raise SandboxError(
            f"A sandbox container did not start: {lost[:300]}; check the engine with `gasp engine up`, then resume."
        )

    def _ready(self) -> docker.DockerClient:
        """The engine's client, after making sure of the image and removing the containers of dead owners."""
        with self._lock:
            if self._closed:
                raise SandboxError("The sandbox is closed; make a new runner.")
            if self._client is None:
                client = self._connect(self._notify)
                require_runtime(client, self._runtime)
                if not self._image:
                    self._image = image_build.ensure_image(client, self._notify)
                elif not image_build.has_image(client, self._image):
                    raise SandboxError(
                        f"The engine has no image {self._image}; copy it from the machine that has it with `docker save`."
                    )
                owner.remove_orphans(client)
                self._client = client
                logger().info("engine_ready", image=self._image, runtime=self._runtime)
            return self._client
