"""The pool on the real engine: turns, what is replaced and why, and what executions say about limits and use."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from events.facts.errors import SandboxError
from sandbox.engine import engine, owner
from sandbox.host import worker
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, Limits

pytestmark = pytest.mark.docker

SLOW = Job(source="import time\ndef f(x):\n    time.sleep(0.1)\n    return x\n", inputs=("1",))
QUICK = Job(source="def f(x): return x", inputs=("1",))


@pytest.fixture(scope="module")
def alone():
    """A runner with one worker, so that whoever waits must wait for it."""
    runner = DockerRunner(Limits(wall_seconds=20), workers=1, run="tests-alone")
    asyncio.run(runner.run([QUICK]))
    yield runner
    asyncio.run(runner.close())


def containers(run="tests-alone"):
    return [container.id for container in owner.owned_containers(engine.connect()) if container.run == run]


async def run_one(runner, source, **more):
    (execution,) = await runner.run([Job(source=source, inputs=("1",), **more)])
    return execution


async def test_a_small_call_need_not_wait_for_the_end_of_a_huge_one(alone):
    huge = asyncio.create_task(alone.run([SLOW] * 300))
    await asyncio.sleep(0.5)
    since = time.monotonic()
    await alone.run([QUICK] * 5)
    assert time.monotonic() - since < 5
    assert not huge.done()
    huge.cancel()


async def test_calls_of_all_sizes_take_turns(alone):
    done = []

    async def call(name, count):
        await alone.run([SLOW] * count)
        done.append(name)

    await asyncio.gather(call("large", 24), call("small", 2), call("middle", 8))
    assert done == ["small", "middle", "large"]


class WatchedCalls(Sequence):
    """Jobs that know how many of them were asked for."""

    def __init__(self, count):
        self.count, self.taken = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        self.taken = max(self.taken, key.stop)
        return [SLOW] * (key.stop - key.start)


async def test_jobs_stay_with_their_caller_until_a_worker_is_about_to_be_free(alone):
    jobs = WatchedCalls(100_000)
    running = asyncio.create_task(alone.run(jobs))
    await asyncio.sleep(1)
    assert 0 < jobs.taken < 40
    running.cancel()
    await asyncio.wait([running])
    taken = jobs.taken
    await alone.run([QUICK])
    assert jobs.taken == taken


PLANTED = """
import sandbox.guest.fork_server as inside
clean_up = inside.ForkServer._clean_up
kept = []
def leaking(self):
    {leak}
    return clean_up(self)
inside.ForkServer._clean_up = leaking
inside.main()
"""


@pytest.mark.parametrize(
    ("leak", "why"), [("kept.append(inside.os.dup(0))", "descriptors"), ("kept.append(bytearray(b'x') * (8 << 20))", "grew")]
)
async def test_a_worker_whose_server_leaks_is_replaced_and_no_job_notices(monkeypatch, leak, why):
    monkeypatch.setattr(worker, "COMMAND", ("python3.11", "-s", "-c", PLANTED.format(leak=leak)))
    runner = DockerRunner(workers=1, run="tests-drift")
    try:
        await runner.run([QUICK])
        before = containers("tests-drift")
        with capture_logs() as entries:
            executions = await runner.run([QUICK] * 20)
        assert [execution.runs[0].value for execution in executions] == ["1"] * 20
        reasons = [entry["why"] for entry in entries if entry["event"] == "worker_replaced"]
        assert 1 <= len(reasons) <= 20
        assert all(why in reason for reason in reasons)
        assert len(containers("tests-drift")) == 1
        assert containers("tests-drift") != before
    finally:
        await runner.close()


async def test_large_jobs_and_many_of_them_make_no_worker_grow(alone):
    large = Job(source="def f(x): return len(x)", inputs=(repr("x" * (4 << 20)),))
    before = containers()
    with capture_logs() as entries:
        await alone.run([large] * 3 + [QUICK] * 200)
    assert (containers(), entries) == (before, [])


async def test_a_program_whose_workers_are_lost_twice_is_an_error_and_no_verdict(alone):
    running = asyncio.create_task(run_one(alone, "import time\ndef f(x): time.sleep(15)"))
    client = engine.connect()
    for _ in range(2):
        await asyncio.sleep(1.5)
        for container in containers():
            await asyncio.to_thread(client.api.kill, container, "KILL")
    with pytest.raises(SandboxError, match="has no result"):
        await running
    assert (await run_one(alone, "def f(x): return x")).runs[0].value == "1"


async def test_closing_ends_calls_that_wait():
    runner = DockerRunner(workers=1, run="tests-closing")
    running = asyncio.create_task(runner.run([SLOW] * 500))
    await asyncio.sleep(2)
    await runner.close()
    with pytest.raises(SandboxError):
        await running
    assert containers("tests-closing") == []


@pytest.mark.parametrize(
    ("limits", "source", "status"),
    [
        ({"file_mb": 1}, "def f(x): open('/tmp/a', 'wb').write(bytes(2 << 20))", "runtime_error"),
        ({"scratch_mb": 1}, "def f(x):\n    for i in range(4): open(f'/tmp/{i}', 'wb').write(bytes(1 << 19))", "runtime_error"),
        ({"scratch_files": 9}, "def f(x):\n    for i in range(9): open(f'/tmp/{i}', 'w')", "runtime_error"),
        ({"open_files": 16}, "import os\ndef f(x):\n    for _ in range(16): os.dup(2)", "runtime_error"),
        ({"processes": 1}, "import os\ndef f(x): os.fork()", "runtime_error"),
        ({"memory_mb": 64}, "def f(x): return len(bytes(80 << 20))", "memory_limit"),
        (
            {"stack_mb": 1},
            "def g(n): return n and max([n - 1], key=g)\nimport sys\nsys.setrecursionlimit(10**6)\ndef f(x): g(9000)",
            "exited",
        ),
        ({"output_kb": 1}, "def f(x): return 'x' * 2000", "output_limit"),
        ({"cpu_seconds": 1}, "def f(x):\n    while True: pass", "time_limit"),
        ({"wall_seconds": 0.5}, "import time\ndef f(x): time.sleep(1)", "time_limit"),
    ],
)
async def test_each_limit_holds_for_programs_that_run_well_without_it(alone, limits, source, status):
    runner = DockerRunner(Limits(**limits), workers=1, run="tests-pool-limits")
    try:
        assert runner.provenance.limits.items() >= {name: float(value) for name, value in limits.items()}.items()
        (run,) = (await run_one(runner, source)).runs
        assert run.status == status, run
        assert (run.detail == "") == (run.status == "ok")
    finally:
        await runner.close()
    if "while" not in source:
        assert (await run_one(alone, source)).runs[0].status == "ok"


async def test_a_limit_may_be_shorter_than_any_look_at_the_clock():
    slow = Job(source="def f(x): return sum(range(x))", inputs=("10_000_000",))
    runner = DockerRunner(Limits(wall_seconds=0.0001), workers=1, run="tests-pool-limits")
    try:
        assert {run.status for execution in await runner.run([slow] * 5) for run in execution.runs} == {"time_limit"}
    finally:
        await runner.close()


async def test_an_execution_says_what_all_processes_of_the_job_used(alone):
    plain = await run_one(alone, "def f(x): return x")
    assert 1 < plain.peak_mb < 64
    large = await run_one(alone, "def f(x): return len(bytearray(b'x') * (100 << 20))")
    assert 95 < large.peak_mb - plain.peak_mb < 120
    for program in (WAITED_FOR, ORPHANED):
        execution = await run_one(alone, program)
        assert execution.runs[0].value == "1"
        assert 0.5 < execution.cpu_seconds < 1


WAITED_FOR = """
import os, time
def f(x):
    if os.fork() == 0:
        while time.process_time() < 0.5: pass
        os._exit(0)
    return os.wait() and 1
"""
ORPHANED = """
import os, time
def f(x):
    pid = os.fork()
    while time.process_time() < 0.3: pass
    if pid == 0: os._exit(0)
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) and 1
"""


FORGE = """
import json, os, struct
body = json.dumps({answer}).encode()
for fd in range(3, 64):
    try: os.write(fd, struct.pack("!I", len(body)) + body)
    except OSError: pass
def f(x): return x
"""


@pytest.mark.parametrize("answer", ['["ok", "42", ""]', '["passed", "42", ""]', '"garbage"'])
@pytest.mark.parametrize("mode", ["function", "stdin"])
async def test_forged_answers_make_every_answer_of_the_program_worthless(alone, answer, mode):
    (execution,) = await alone.run([Job(source=FORGE.format(answer=answer), inputs=("1", "2"), mode=mode)])
    assert {run.status for run in execution.runs} == {"tampered"}


@pytest.mark.parametrize(
    ("number", "status"), [("signal.SIGSYS", "forbidden"), ("signal.SIGRTMIN + 6", "exited"), ("9", "exited")]
)
async def test_a_child_ended_by_a_signal_names_it(alone, number, status):
    (run,) = (await run_one(alone, f"import os, signal\ndef f(x): os.kill(os.getpid(), {number})")).runs
    assert run.status == status
    assert run.detail.startswith("killed")
