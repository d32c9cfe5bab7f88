"""Hostile and broken programs against the real engine: each gets its status, and harms nobody after it."""

import asyncio
import random
import tomllib
from pathlib import Path

import pytest

from sandbox import compare
from sandbox.docker import DockerRunner
from sandbox.runner import Job, Limits

pytestmark = pytest.mark.docker

PROGRAMS = tomllib.loads(Path(__file__).with_name("hostile").joinpath("programs.toml").read_text())["program"]
GOOD = Job(
    source="import os\ndef f(x):\n    assert os.listdir('/tmp') == []\n    return sorted(x)\n",
    inputs=("[3, 1, 2]", "'ba'"),
)
GOOD_VALUES = ["[1, 2, 3]", "['a', 'b']"]


def job(program) -> Job:
    return Job(
        source=program["source"] * program.get("repeat", 1),
        inputs=tuple(program.get("inputs", ["1"])),
        mode=program.get("mode", "function"),
    )


def fits(program, execution) -> bool:
    expected = program["expect"]
    allowed = {*expected, *program.get("also", [])}
    statuses = [run.status for run in execution.runs]
    exact = "also" in program or statuses == expected
    return exact and set(statuses) <= allowed and len(statuses) == len(expected)


@pytest.fixture(scope="module")
def single():
    """One worker, so that the good program meets the worker that the hostile one had."""
    runner = DockerRunner(Limits(wall_seconds=2, cpu_seconds=1), workers=1, run="tests-hostile")
    yield runner
    asyncio.run(runner.close())


@pytest.mark.parametrize("program", PROGRAMS, ids=[program["name"] for program in PROGRAMS])
async def test_a_hostile_program_gets_its_status_and_the_next_one_a_clean_world(single, program):
    (execution,) = await single.run([job(program)])
    assert fits(program, execution), execution
    if "value" in program:
        assert execution.runs[0].value == program["value"]
    if job(program).mode == "function":
        assert all(compare.same(run.value, run.value) for run in execution.runs if run.status == "ok")
    (after,) = await single.run([GOOD])
    assert [run.value for run in after.runs] == GOOD_VALUES, after


async def test_hostile_programs_mixed_with_good_ones_change_no_good_result(runner):
    fast = [program for program in PROGRAMS if "time_limit" not in [*program["expect"], *program.get("also", [])]]
    jobs = [job(program) for program in fast] + [GOOD] * 60
    random.Random(1).shuffle(jobs)
    executions = await runner.run(jobs)
    good = [execution for which, execution in zip(jobs, executions, strict=True) if which == GOOD]
    assert len(good) == 60
    assert all([run.value for run in execution.runs] == GOOD_VALUES for execution in good)
