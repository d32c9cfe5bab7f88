"""The interface of the sandbox: `Runner` takes jobs and returns their results.

Guarantees: a failure of the infrastructure raises `SandboxError`; whatever the program does is a `JobResult`.
Not responsible for: expected outputs, verdicts, models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from events.facts.values import Provenance, Value


class Limits(Value):
    """What one job may use. A program that hits a limit gets a status that says which."""

    wall_seconds: Annotated[float, Field(gt=0)] = 6.0
    """Wall-clock seconds for the whole job, all inputs together, but for waiting for a core that is busy elsewhere."""
    cpu_seconds: Annotated[int, Field(gt=0)] = 6
    """CPU seconds, all inputs together. Processes that it starts have as many each, but all of them share one core."""
    memory_mb: Annotated[int, Field(gt=0)] = 256
    """Address space of one process, in MiB; all processes together have about as much real memory."""
    stack_mb: Annotated[int, Field(gt=0)] = 64
    """Stack of one process in MiB, for programs that recurse in C."""
    output_kb: Annotated[int, Field(gt=0)] = 64
    """Largest encoded result of one input, and largest standard output, in KiB."""
    file_mb: Annotated[int, Field(gt=0)] = 8
    """Largest file in MiB."""
    scratch_mb: Annotated[int, Field(gt=0)] = 16
    """All files together, in MiB."""
    scratch_files: Annotated[int, Field(gt=0)] = 4096
    """Files and folders, all together."""
    open_files: Annotated[int, Field(ge=16)] = 64
    """Open descriptors of one process."""
    processes: Annotated[int, Field(gt=0)] = 16
    """Processes and threads, the job's own included."""


class Job(Value):
    """A program and the inputs to run it on, all in one fresh child process."""

    source: str
    """Python source text, untrusted."""
    inputs: tuple[str, ...]
    """One run each: literals of the arguments (mode `function`, such as `'ab', 3`) or standard input (mode `stdin`)."""
    entry: str = "f"
    """Function to call (mode `function`): `f` or `Solution.method`."""
    mode: Literal["function", "stdin"] = "function"
    """How inputs reach the program."""
    hash_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Python's hash seed, on which the order of sets of strings depends. A job with another seed runs on another worker, where
    addresses differ, too; attempts are judged with 0."""


RunStatus = Literal[
    "ok",
    "runtime_error",
    "syntax_error",
    "time_limit",
    "memory_limit",
    "output_limit",
    "unprintable",
    "exited",
    "forbidden",
    "tampered",
]
"""What happened on one input. `unprintable`: the result is not plain data. `exited`: the process ended before it replied.
`forbidden`: the kernel killed it for a system call. `tampered`: the process sent malformed replies, so none of them counts."""


class InputRun(Value):
    """The result of one input."""

    status: RunStatus
    value: str = ""
    """Mode `function`: the returned value as a Python literal. Mode `stdin`: standard output. Empty unless `ok`."""
    detail: str = ""
    """Exception type and message, or the exit cause; at most 200 characters. Empty if and only if `ok`."""


class JobResult(Value):
    """The result of one job: one run per input, in the order of the inputs."""

    runs: tuple[InputRun, ...]
    """One per input of the job."""
    seconds: float
    """Wall-clock seconds, measured by the fork server; without waiting for a core, where only that passed the limit."""
    cpu_seconds: float
    """CPU seconds of all processes of the job."""
    peak_mb: float
    """Largest resident memory of one process of the job in MiB, the interpreter included."""


class Runner(Protocol):
    """Runs jobs: `sandbox.host.docker_runner.DockerRunner`; tests have a table-driven one."""

    @property
    def provenance(self) -> Provenance:
        """Image digest and limits in force."""
        ...

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        """Run the jobs; the results are in the order of the jobs.

        Raises:
            SandboxError: the engine or a container failed and the jobs could not be run elsewhere.
        """
        ...

    async def close(self) -> None:
        """Remove every container this runner made. Safe to call twice."""
        ...
