"""One warm container with a fork server in it, seen from the host.

Law: the container lives no longer than this process: its standard input is ours alone, and the server ends when that
closes. Whatever goes wrong with container or stream is `WorkerLost`, never an execution. It does not retry.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sandbox import owner
from sandbox.confinement import confinement
from sandbox.runner import Execution, Job, Limits, Run

if TYPE_CHECKING:
    import socket

    import docker

SECONDS_TO_START = 60.0
"""How long a container may take until its server is ready; half a second is usual."""
GRACE_SECONDS = 30.0
"""How much longer than the job's own limit the host waits, on a machine that is busy with other things."""
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
_STDERR = 2


class WorkerLost(Exception):
    """The container or the stream to it broke; the message says how."""


class Worker:
    """A started container."""

    def __init__(self, client: docker.DockerClient, image: str, limits: Limits, run: str) -> None:
        self._client = client
        self._limits = limits
        self.id = ""
        self._stream: _Stream | None = None
        self.clean = True
        """False when a program left something that could not be removed: then this worker must go."""
        try:
            self._start(image, run)
        except Exception:
            self.close()
            raise

    def _start(self, image: str, run: str) -> None:
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
            host_config=api.create_host_config(**confinement(self._limits)),
        )
        self.id = container["Id"]
        attached = api.attach_socket(self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        self._stream = _Stream(attached)
        api.start(self.id)
        self._stream.receive(SECONDS_TO_START)

    def play(self, jobs: Sequence[Job]) -> Iterator[Execution]:
        """Run jobs one after another; ends early when the worker is not clean any more.

        Raises:
            WorkerLost: while the job after the last yielded one was running.
        """
        assert self._stream is not None
        since = time.monotonic()
        self._stream.send({"limits": self._limits.model_dump(), "jobs": [job.model_dump() for job in jobs]}, SECONDS_TO_START)
        for job in jobs:
            reply = self._stream.receive(self._limits.wall_seconds + GRACE_SECONDS)
            now = time.monotonic()
            yield _execution(reply, len(job.inputs), now - since)
            since = now
            self.clean = reply["clean"] is True
            if not self.clean:
                return

    def close(self) -> None:
        """Remove the container. Safe to call twice."""
        # The container first: then a thread that reads from the stream sees its end.
        if self.id:
            owner.remove(self._client, self.id)
        if self._stream is not None:
            self._stream.close()


def _execution(reply: Any, count: int, seconds: float) -> Execution:
    try:
        runs = tuple(Run(status=status, value=value, detail=detail) for status, value, detail in reply["runs"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise WorkerLost(f"its reply is malformed: {str(error)[:200]}") from error
    if len(runs) != count or "clean" not in reply:
        raise WorkerLost(f"it answered {len(runs)} of {count} inputs")
    return Execution(runs=runs, seconds=seconds)


class _Stream:
    """Frames over the container's attached standard streams, which the engine multiplexes."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket: socket.socket = attached._sock
        self._raw = b""
        self._out = bytearray()
        self._said = b""

    def send(self, message: object, seconds: float) -> None:
        body = json.dumps(message).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(struct.pack("!I", len(body)) + body)
        except OSError as error:
            raise WorkerLost(f"the stream broke: {error}") from error

    def receive(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while len(self._out) < 4 or len(self._out) < 4 + struct.unpack_from("!I", self._out)[0]:
            self._read(deadline)
        size = struct.unpack_from("!I", self._out)[0]
        body = bytes(self._out[4 : 4 + size])
        del self._out[: 4 + size]
        try:
            return json.loads(body)
        except ValueError as error:
            raise WorkerLost("it sent a frame that is not JSON") from error

    def _read(self, deadline: float) -> None:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._socket.recv(1 << 16)
        except TimeoutError as error:
            raise WorkerLost("it did not answer in time") from error
        except OSError as error:
            raise WorkerLost(f"the stream broke: {error}") from error
        if not part:
            raise WorkerLost(f"the container ended. {self._said.decode('utf-8', 'replace')[-300:]}".strip())
        self._raw += part
        while len(self._raw) >= 8:
            kind, size = struct.unpack_from("!BxxxI", self._raw)
            if len(self._raw) < 8 + size:
                return
            payload, self._raw = self._raw[8 : 8 + size], self._raw[8 + size :]
            if kind == _STDERR:
                self._said = (self._said + payload)[-2000:]
            else:
                self._out += payload

    def close(self) -> None:
        self._attached.close()
        self._socket.close()
