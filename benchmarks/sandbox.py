"""`make bench-sandbox`: measures the sandbox against other ways to run a program, into its section of `docs/benchmarks.md`.

All contenders run the same programs and must get the same results. The programs are constants of this file: the unconfined
contenders never run a program that a model wrote.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks import section, uncontained
from benchmarks.command import run_main
from benchmarks.rounds import Claim, Rates, claims_table, interleaved, rate, table
from sandbox.engine import engine, image_build
from sandbox.guest.fork_server import PRELOADED
from sandbox.host.confinement import confinement
from sandbox.host.docker_runner import DockerRunner
from sandbox.host.worker import Worker
from sandbox.runner import Job, Limits

if TYPE_CHECKING:
    import docker

MAX_SLOWDOWN_FORK, MIN_RATIO_POOL = 1.3, 20.0
COLD_STARTS = 5
PACKAGES = ("docker", "Pebble")
NOTES = """\
All take turns, round by round, with the same programs, and must get the same results. Shown are programs a second,
medians with the lowest and the highest round; a ratio is taken within a round. Ours is `DockerRunner`: one call with all
programs of a round, every limit in force, each program in a confined process of its own. "bare fork" is the floor: a loop of
`os.fork` and `exec(compile(...))` on the host, without limits or isolation, by the interpreter {floor} with the same modules
loaded; two workers are compared with two such loops. Everything else runs one program after another and is compared with one
worker.
`docker run` and `docker exec` go through the SDK, the former with the limits of our own containers. "pebble, a pool a call"
makes a `ProcessPool` of one process for every program, as self-play code does; "a process a call" keeps one pool and lets it
make a new process for every program (`max_tasks=1`). Neither confines anything."""
TRIVIAL = "def f(x):\n    return x\n"
SMALL = """
def f(n):
    best = [0] * (n + 1)
    for coin in (1, 5, 10, 25):
        for total in range(coin, n + 1):
            best[total] += best[total - coin] + 1
    words = sorted(str(number) for number in best)
    return {word: words.count(word) for word in words[:7]}
"""
IMPORTING = """
import collections, functools, heapq, itertools, json, math, random, re

def f(text):
    counted = collections.Counter(re.findall(r"[a-z]+", text))
    longest = heapq.nlargest(2, counted, key=len)
    return json.dumps([longest, math.comb(9, 4), list(itertools.accumulate(counted.values()))])
"""


@dataclass(frozen=True)
class BenchmarkProgram:
    """A program and what to call its `f` with."""

    name: str
    source: str
    arguments: list[list[Any]]

    @property
    def job(self) -> Job:
        """As our runner takes it."""
        inputs = tuple(", ".join(repr(value) for value in those) for those in self.arguments)
        return Job(source=self.source, inputs=inputs)


PROGRAMS = (
    BenchmarkProgram("trivial", TRIVIAL, [[1]]),
    BenchmarkProgram("small", SMALL, [[20], [50], [90]]),
    BenchmarkProgram("importing", IMPORTING, [["a stitch in time saves nine, in time"]]),
)


class UncontainedLoop:
    """A process that runs programs in one of the unconfined ways."""

    def __init__(self, stack: ExitStack, way: str, python: str, *flags: str) -> None:
        command = [python, *flags, uncontained.__file__, way, PRELOADED if way == "fork" else ""]
        self._process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert self._process.stdin is not None
        stack.callback(self._process.stdin.close)

    def send(self, program: BenchmarkProgram, count: int) -> None:
        """Send a program to run `count` times."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([program.source, program.arguments, count]) + "\n")
        self._process.stdin.flush()

    def receive(self, program: BenchmarkProgram) -> list[float]:
        """Wait for the results; seconds of every run."""
        assert self._process.stdout is not None
        results, seconds = json.loads(self._process.stdout.readline())
        check(program, results)
        return list(seconds)


def check(program: BenchmarkProgram, results: list[str]) -> None:
    """Check the results of a program.

    Raises:
        AssertionError: they differ from a run in this process.
    """
    expected = uncontained.call(program.source, program.arguments)
    if results != expected:
        raise AssertionError(f"{program.name}: {expected} was expected, not {results}")


class RunnerContender:
    """Our runner."""

    def __init__(self, stack: ExitStack, loop: asyncio.AbstractEventLoop, workers: int) -> None:
        self._loop = loop
        self._runner = DockerRunner(workers=workers, run="benchmark")
        stack.callback(lambda: loop.run_until_complete(self._runner.close()))

    def run(self, program: BenchmarkProgram, count: int) -> None:
        """Run copies of the program in one call."""
        for execution in self._loop.run_until_complete(self._runner.run([program.job] * count)):
            check(program, [run.value for run in execution.runs])


class DockerContender:
    """The engine through its SDK: a container a program, or a program in a container that waits."""

    def __init__(self, stack: ExitStack, client: docker.DockerClient) -> None:
        self._client = client
        self.image = image_build.ensure_image(client, engine.print_message)
        # The engine keeps the output, as it does for `docker run` without options, and the SDK asks for it before it removes.
        self._limits = confinement(Limits()) | {"auto_remove": False, "log_config": None}
        waiting = ["python3.11", "-I", "-c", "import time; time.sleep(1e6)"]
        self._warm = client.containers.run(self.image, waiting, detach=True, **self._limits)
        stack.callback(lambda: self._warm.remove(force=True))

    def run(self, program: BenchmarkProgram, count: int) -> None:
        """`docker run --rm`, all limits."""
        for _ in range(count):
            output = self._client.containers.run(self.image, self._command(program), remove=True, user="65534", **self._limits)
            check(program, output.decode().splitlines())

    def exec(self, program: BenchmarkProgram, count: int) -> None:
        """`docker exec` in a warm container."""
        for _ in range(count):
            check(program, self._warm.exec_run(self._command(program), user="65534").output.decode().splitlines())

    def _command(self, program: BenchmarkProgram) -> list[str]:
        return ["python3.11", "-I", "-c", uncontained.script(program.source, program.arguments)]


class SandboxContest:
    """All contenders, started."""

    def __init__(self, stack: ExitStack, client: docker.DockerClient, python: str) -> None:
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        self._one, self._two = (RunnerContender(stack, loop, workers) for workers in (1, 2))
        self._forks = [UncontainedLoop(stack, "fork", python, "-I", "-S") for _ in range(2)]
        self._others = {way: UncontainedLoop(stack, way, sys.executable) for way in ("fresh", "pool", "worker")}
        self._docker = DockerContender(stack, client)

    def throughput(self, program: BenchmarkProgram, rounds: int, count: int) -> list[Claim]:
        """Claims of ours against all others, on one program."""
        slow_count, slowest_count = max(1, count // 20), max(1, count // 100)
        rates = interleaved(
            {
                "one": lambda: rate(count, lambda: self._one.run(program, count)),
                "two": lambda: rate(count, lambda: self._two.run(program, count)),
                "fork": lambda: rate(count, lambda: self._run_in(self._forks[:1], program, count)),
                "forks": lambda: rate(count // 2 * 2, lambda: self._run_in(self._forks, program, count // 2)),
                **{way: self._other(way, program, slow_count) for way in self._others},
                "exec": lambda: rate(slow_count, lambda: self._docker.exec(program, slow_count)),
                "run": lambda: rate(slowest_count, lambda: self._docker.run(program, slowest_count)),
            },
            rounds,
        )
        return list(_claims(program.name, rates))

    def latency(self, program: BenchmarkProgram, rounds: int, count: int) -> list[list[str]]:
        """Rows of milliseconds of single programs, one at a time."""
        ours: list[float] = []
        floor: list[float] = []

        def single() -> float:
            for _ in range(count):
                began = time.perf_counter()
                self._one.run(program, 1)
                ours.append(time.perf_counter() - began)
            return 0.0

        def fork() -> float:
            floor.extend(self._run_in(self._forks[:1], program, count))
            return 0.0

        interleaved({"ours": single, "fork": fork}, rounds)
        return [[program.name, name, *_percentiles(seconds)] for name, seconds in (("ours", ours), ("bare fork", floor))]

    def cold_starts(self, client: docker.DockerClient) -> Rates:
        """Seconds until a new worker is ready."""
        seconds = []
        for _ in range(COLD_STARTS):
            began = time.perf_counter()
            worker = Worker(client, self._docker.image, Limits(), "benchmark")
            seconds.append(time.perf_counter() - began)
            worker.close()
        return Rates(tuple(seconds))

    def _other(self, way: str, program: BenchmarkProgram, count: int) -> Callable[[], float]:
        return lambda: rate(count, lambda: self._run_in([self._others[way]], program, count))

    def _run_in(self, loops: list[UncontainedLoop], program: BenchmarkProgram, count: int) -> list[float]:
        for loop in loops:
            loop.send(program, count)
        return [seconds for loop in loops for seconds in loop.receive(program)]


def _claims(name: str, rates: dict[str, Rates]) -> Iterator[Claim]:
    one, two = rates["one"], rates["two"]
    yield Claim(f"{name}, one worker", one, "bare fork, one loop", rates["fork"], most=MAX_SLOWDOWN_FORK)
    yield Claim(f"{name}, two workers", two, "bare fork, two loops", rates["forks"], most=MAX_SLOWDOWN_FORK)
    yield Claim(f"{name}, one worker", one, "new `python3 -I`", rates["fresh"])
    yield Claim(f"{name}, one worker", one, "pebble, a pool a call", rates["pool"], least=MIN_RATIO_POOL)
    yield Claim(f"{name}, one worker", one, "pebble, a process a call", rates["worker"])
    yield Claim(f"{name}, one worker", one, "`docker exec`", rates["exec"])
    yield Claim(f"{name}, one worker", one, "`docker run`", rates["run"])


def _percentiles(seconds: list[float]) -> tuple[str, str]:
    return f"{1000 * median(seconds):.1f}", f"{1000 * quantiles(seconds, n=100)[98]:.1f}"


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of measurement.", min=1)] = 5,
    programs: Annotated[
        int, typer.Option(help="Programs of a round for the fast ones; a 20th to a 100th of it else.", min=2)
    ] = 200,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = section.DOCUMENT,
) -> None:
    """Measure the sandbox against forks, interpreters, process pools and Docker itself. A few minutes."""
    # The interpreter of the container is Debian's; where the host has it as well, the floor is not a slower build of it.
    python = shutil.which("python3.11", path="/usr/bin") or sys.executable
    lines = [section.machine(PACKAGES), "", NOTES.format(floor=f"`{python}`"), ""]
    with ExitStack() as stack:
        client = engine.connect(engine.print_message)
        contest = SandboxContest(stack, client, python)
        with section.step("warming up"):
            contest.throughput(PROGRAMS[0], 1, 20)
        claims, latencies = [], []
        for program in PROGRAMS:
            with section.step(program.name):
                claims += contest.throughput(program, rounds, programs)
                latencies += contest.latency(program, rounds, max(2, programs // 4))
        cold = contest.cold_starts(client)
    lines += [*claims_table(claims), "", "Single programs, one at a time, from the call to the execution:", ""]
    lines += [*table(["program", "by", "p50, ms", "p99, ms"], latencies), ""]
    lines += [f"Cold start of a worker, from nothing to ready: {cold.show(2)} s."]
    section.write(document, "sandbox", "The sandbox", lines)
    section.summary(claims)


if __name__ == "__main__":
    run_main(main)
