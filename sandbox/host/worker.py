"""One warm container with a fork server, seen from the host.

Guarantees: whatever goes wrong with container or stream is `ContainerLost`, never a result.
Not responsible for: retries (`docker_runner`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sandbox.guest.child import START_RECORD
from sandbox.guest.fork_server import PARSE_TIMEOUT_S, PROTOCOL, WAITING
from sandbox.host.container import SECONDS_TO_START, Container
from sandbox.host.exit_status import ChildExit, function_replies, stdout_reply
from sandbox.host.stream import ContainerLost
from sandbox.runner import InputRun, Job, JobResult, Limits

if TYPE_CHECKING:
    import docker

GRACE_SECONDS = 30.0
"""The host waits so much longer than the job's own limit, for machines that are busy with other things."""
MAX_GROWTH_MB = 32
"""A server that has grown by more is replaced."""
MAX_GROWTH_DESCRIPTORS = 8
"""A server that has leaked more descriptors is replaced."""
REPLY_BODIES = ("answers", "output")
"""Byte strings that follow the frame of a reply, in this order."""
COMMAND = ("python3.11", "-s", "-m", "sandbox.guest.fork_server")


class Worker:
    """Creating the object starts the container and waits until its server is ready."""

    def __init__(
        self, client: docker.DockerClient, image: str, limits: Limits, run: str, runtime: str = "", hash_seed: int = 0
    ) -> None:
        self._limits = limits
        self.hash_seed = hash_seed
        """Hash seed of its interpreter."""
        self.unfit = ""
        """Why this worker must be replaced: a program left files, or the server has grown. Empty while it is fit."""
        self._container = Container(client, image, COMMAND, limits, run, runtime, hash_seed)
        try:
            self._size = self._greet()
        except Exception:
            self.close()
            raise

    @property
    def id(self) -> str:
        """Id of the container."""
        return self._container.id

    def _greet(self) -> tuple[float, int]:
        ready = self._container.stream.receive(SECONDS_TO_START)
        if ready.get("protocol") != PROTOCOL:
            raise ContainerLost(f"the image speaks protocol {ready.get('protocol')} and not {PROTOCOL}")
        memory, descriptors = ready["server"]
        return memory, descriptors

    def run(self, jobs: Sequence[Job]) -> Iterator[JobResult]:
        """Run jobs one after another; stops early when the worker becomes unfit.

        Raises:
            ContainerLost: while the job after the last yielded one was running, or one soon after it.
        """
        stream = self._container.stream
        bodies = [json.dumps(job.model_dump(exclude={"hash_seed"})).encode() for job in jobs]
        heads = [
            {"mode": job.mode, "inputs": len(job.inputs), "size": len(body)} for job, body in zip(jobs, bodies, strict=True)
        ]
        stream.send({"limits": self._limits.model_dump(), "jobs": heads}, SECONDS_TO_START, b"".join(bodies))
        for job in jobs:
            reply = stream.receive(PARSE_TIMEOUT_S + (1 + WAITING) * self._limits.wall_seconds + GRACE_SECONDS)
            yield self._result(reply, job)
            if self.unfit:
                return

    def _result(self, reply: Any, job: Job) -> JobResult:
        try:
            exits = self._child_exits(reply["ends"])
            longest = self._limits.output_kb * 1024
            replies = (
                [stdout_reply(end) for end in exits]
                if job.mode == "stdin"
                else function_replies(exits[0], len(job.inputs), longest)
            )
            runs = tuple(InputRun(status=status, value=value, detail=detail) for status, value, detail in replies)
            result = JobResult(runs=runs, **{name: reply[name] for name in ("seconds", "cpu_seconds", "peak_mb")})
            self.unfit = self._unfit_reason(reply)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ContainerLost(f"its reply is malformed: {str(error)[:200]}") from error
        if len(runs) != len(job.inputs):
            raise ContainerLost(f"it answered {len(runs)} of {len(job.inputs)} inputs")
        return result

    def _child_exits(self, ends: Any) -> list[ChildExit]:
        """How the children of a job exited, with the bytes that follow the frame."""
        answers, outputs = (
            [self._container.stream.receive_bytes(end[body], GRACE_SECONDS) for end in ends] for body in REPLY_BODIES
        )
        return [
            ChildExit(**{**end, "answers": answer[START_RECORD.size :], "output": output})
            for end, answer, output in zip(ends, answers, outputs, strict=True)
        ]

    def _unfit_reason(self, reply: Any) -> str:
        memory, descriptors = (now - first for now, first in zip(reply["server"], self._size, strict=True))
        if not reply["clean"]:
            return "a program left files that cannot be removed"
        if memory > MAX_GROWTH_MB:
            return f"its server grew by {memory:.0f} MiB"
        return f"its server leaks {descriptors} descriptors" if descriptors > MAX_GROWTH_DESCRIPTORS else ""

    def close(self) -> None:
        """Remove the container. Safe to call twice."""
        self._container.close()
