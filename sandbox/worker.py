"""One warm container with a fork server in it, seen from the host.

Law: the container lives no longer than this process: its standard input is ours alone, and the server ends when that
closes. Whatever goes wrong with container or stream is `ContainerLost`, never an execution. It does not retry.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sandbox import owner
from sandbox.confinement import confinement
from sandbox.inside import PROTOCOL
from sandbox.runner import Execution, Job, Limits, Run
from sandbox.stream import ContainerLost, Stream

if TYPE_CHECKING:
    import docker

SECONDS_TO_START = 60.0
"""How long a container may take until its server is ready; half a second is usual."""
GRACE_SECONDS = 30.0
"""How much longer than the job's own limit the host waits, on a machine that is busy with other things."""
DRIFT_MB = 32
"""How much a server may grow before it must go."""
DRIFT_DESCRIPTORS = 8
"""How many descriptors a server may have more than at first before it must go."""
COMMAND = ("python3.11", "-s", "-m", "sandbox.inside")
ENVIRONMENT = {
    "GASP_INSIDE": "1",
    "PYTHONPATH": "/gasp",
    "PYTHONDONTWRITEBYTECODE": "1",
    # One order of sets of strings everywhere: a verdict must not depend on the worker that a program met.
    "PYTHONHASHSEED": "0",
    "HOME": "/tmp",  # noqa: S108  # inside the container
    "LANG": "C.UTF-8",
}


class Worker:
    """A started container."""

    def __init__(self, client: docker.DockerClient, image: str, limits: Limits, run: str, runtime: str = "") -> None:
        self._client = client
        self._limits = limits
        self.id = ""
        self._stream: Stream | None = None
        self._size = (0.0, 0)
        self.unfit = ""
        """Why this worker must go: a program left something behind, or the server has grown. Empty while it is fit."""
        try:
            self._start(image, run, runtime)
        except Exception:
            self.close()
            raise

    def _start(self, image: str, run: str, runtime: str) -> None:
        api = self._client.api
        container = api.create_container(
            image,
            list(COMMAND),
            environment=ENVIRONMENT,
            labels=owner.labels(run),
            working_dir="/",
            stdin_open=True,
            user="0:0",
            network_disabled=True,
            host_config=api.create_host_config(**confinement(self._limits, runtime)),
        )
        self.id = container["Id"]
        attached = api.attach_socket(self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        self._stream = Stream(attached)
        api.start(self.id)
        ready = self._stream.receive(SECONDS_TO_START)
        if ready.get("protocol") != PROTOCOL:
            raise ContainerLost(f"the image speaks protocol {ready.get('protocol')} and not {PROTOCOL}")
        self._size = ready["server"]

    def play(self, jobs: Sequence[Job]) -> Iterator[Execution]:
        """Run jobs one after another; ends early when the worker is not fit any more.

        Raises:
            ContainerLost: while the job after the last yielded one was running.
        """
        assert self._stream is not None
        since = time.monotonic()
        self._stream.send({"limits": self._limits.model_dump(), "jobs": [job.model_dump() for job in jobs]}, SECONDS_TO_START)
        for job in jobs:
            reply = self._stream.receive(self._limits.wall_seconds + GRACE_SECONDS)
            now = time.monotonic()
            yield self._execution(reply, len(job.inputs), now - since)
            since = now
            if self.unfit:
                return

    def _execution(self, reply: Any, count: int, seconds: float) -> Execution:
        try:
            runs = tuple(Run(status=status, value=value, detail=detail) for status, value, detail in reply["runs"])
            used = {name: reply[name] for name in ("cpu_seconds", "peak_mb")}
            execution = Execution(runs=runs, seconds=seconds, **used)
            self.unfit = self._drift(reply)
        except (KeyError, TypeError, ValueError) as error:
            raise ContainerLost(f"its reply is malformed: {str(error)[:200]}") from error
        if len(runs) != count:
            raise ContainerLost(f"it answered {len(runs)} of {count} inputs")
        return execution

    def _drift(self, reply: Any) -> str:
        memory, descriptors = (now - first for now, first in zip(reply["server"], self._size, strict=True))
        if not reply["clean"]:
            return "a program left files that cannot be removed"
        if memory > DRIFT_MB:
            return f"its server grew by {memory:.0f} MiB"
        return f"its server leaks {descriptors} descriptors" if descriptors > DRIFT_DESCRIPTORS else ""

    def close(self) -> None:
        """Remove the container. Safe to call twice."""
        # The container first: then a thread that reads from the stream sees its end.
        if self.id:
            owner.remove(self._client, self.id)
        if self._stream is not None:
            self._stream.close()
