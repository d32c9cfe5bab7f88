"""The contract of whatever runs untrusted programs: jobs in, executions out.

Law: infrastructure raises (`SandboxError`), programs return (`Execution`). A runner never sees an expected answer and
knows nothing of models or verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from events.values import Provenance, Value


class Limits(Value):
    """What one job may use. A limit that is hit is a fact about the program."""

    wall_seconds: Annotated[float, Field(gt=0)] = 6.0
    """Wall-clock seconds for the whole job, all inputs together."""
    cpu_seconds: Annotated[int, Field(gt=0)] = 6
    """CPU seconds for the whole job."""
    memory_mb: Annotated[int, Field(gt=0)] = 256
    """Address space in MiB."""
    output_kb: Annotated[int, Field(gt=0)] = 64
    """Largest encoded result of one input, and largest standard output, in KiB."""
    processes: Annotated[int, Field(gt=0)] = 16
    """Processes and threads, the job's own included."""


class Job(Value):
    """A program and the inputs to run it on, all in one fresh child process."""

    source: str
    """Python source text, untrusted."""
    inputs: tuple[str, ...]
    """One run each: argument literals (mode `function`, `'ab', 3`) or standard input (mode `stdin`)."""
    entry: str = "f"
    """Function to call (mode `function`): `f` or `Solution.method`."""
    mode: Literal["function", "stdin"] = "function"
    """How inputs reach the program."""


RunStatus = Literal[
    "ok", "runtime_error", "syntax_error", "time_limit", "memory_limit", "output_limit", "unprintable", "exited"
]
"""What became of one input. `unprintable`: not plain data. `exited`: the process ended before it answered."""


class Run(Value):
    """What came back for one input."""

    status: RunStatus
    """What happened."""
    value: str = ""
    """Mode `function`: the returned value as a Python literal. Mode `stdin`: standard output. Empty unless `ok`."""
    detail: str = ""
    """Exception type and message, or the exit cause; at most 200 characters."""


class Execution(Value):
    """What came back for one job, one run an input, in the order of the inputs."""

    runs: tuple[Run, ...]
    """As many as the job has inputs."""
    seconds: float
    """Wall-clock seconds, measured outside the container."""


class Runner(Protocol):
    """Runs jobs. Implementations: `sandbox.docker.DockerRunner`; tests have a table-driven one."""

    @property
    def provenance(self) -> Provenance:
        """Image digest and limits in force."""
        ...

    async def run(self, jobs: Sequence[Job]) -> list[Execution]:
        """Run the jobs and return their executions in the same order.

        Raises:
            SandboxError: the engine or a container failed and the jobs could not be run elsewhere.
        """
        ...

    async def close(self) -> None:
        """Remove every container this runner made. Safe to call twice."""
        ...
