"""Hostile and broken programs against the real engine: each gets its status, passes nothing, and harms nobody after it."""

import asyncio
import random
import time
import tomllib
import uuid

import pytest

from events.facts.values import IOPair, Question
from roles.verifier import Verifier
from sandbox import compare
from sandbox.engine import engine
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, Limits
from tests.support.container_leftovers import ContainerLeftovers
from tests.support.paths import ROOT

pytestmark = pytest.mark.docker

HERE = ROOT / "tests" / "hostile"
CORPUS = {path.stem: tomllib.loads(path.read_text())["program"] for path in sorted(HERE.glob("*.toml"))}
PROGRAMS = [program for programs in CORPUS.values() for program in programs]
WORLD = Job(source=HERE.joinpath("world.py").read_text(), inputs=("",))
GOOD = Job(
    source="import os\ndef f(x):\n    assert os.listdir('/tmp') == []\n    return sorted(x)\n", inputs=("[3, 1, 2]", "'ba'")
)
GOOD_VALUES = ["[1, 2, 3]", "['a', 'b']"]
SHORT = Limits(wall_seconds=5, cpu_seconds=1)


def job(program) -> Job:
    return Job(
        source=program["source"] * program.get("repeat", 1),
        inputs=tuple(program.get("inputs", ["1"])),
        mode=program.get("mode", "function"),
    )


def matches_expectation(program, execution) -> bool:
    expected = program["expect"]
    allowed = {*expected, *program.get("also", [])}
    statuses = [run.status for run in execution.runs]
    exact = "also" in program or statuses == expected
    return exact and set(statuses) <= allowed and len(statuses) == len(expected)


def nothing_left(traces, seconds=20.0) -> None:
    deadline = time.monotonic() + seconds
    while (left := traces.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert traces.seen
    assert left == []


@pytest.fixture(scope="module")
def single():
    """One worker, so that the next program meets the worker that the hostile one had."""
    runner = DockerRunner(SHORT, workers=1, run="tests-hostile")
    yield runner
    asyncio.run(runner.close())


async def run_in_turn(programs, traces):
    """Run programs on one worker, each followed by a look at the world that it leaves; both by the program's name."""
    runner = DockerRunner(SHORT, workers=1, run="tests-hostile-chain")
    results = {}
    try:
        (first,) = await runner.run([WORLD])
        assert first.runs[0].status == "ok", first
        while programs:
            program = programs.pop()
            (execution,) = await runner.run([job(program)])
            (after,) = await runner.run([WORLD])
            results[program["name"]] = execution, after.runs[0].value == first.runs[0].value
            await asyncio.to_thread(traces.look)
    finally:
        await runner.close()
    return results


@pytest.fixture(scope="module")
def executions(request):
    """What becomes of the programs of this session, three at a time, as some wait for their limit; afterwards the host is as before."""
    traces = ContainerLeftovers(engine.connect(), "tests-hostile-chain")
    programs = [
        item.callspec.params["program"]
        for item in request.session.items
        if hasattr(item, "callspec") and "program" in item.callspec.params and item.path == request.path
    ]

    async def run_all():
        return await asyncio.gather(*(run_in_turn(programs, traces) for _ in range(3)))

    first, *others = asyncio.run(run_all())
    nothing_left(traces)
    return first | {name: result for other in others for name, result in other.items()}


def test_the_corpus_is_large_and_every_program_in_it_has_a_name_of_its_own():
    assert len(PROGRAMS) >= 200
    assert len({program["name"] for program in PROGRAMS}) == len(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=[program["name"] for program in PROGRAMS])
def test_a_hostile_program_gets_its_status_and_the_next_one_a_clean_world(executions, program):
    execution, clean = executions[program["name"]]
    assert matches_expectation(program, execution), execution
    if "value" in program:
        assert execution.runs[0].value == program["value"]
    if job(program).mode == "function" and program.get("literal", True):
        assert all(compare.outputs_match(run.value, run.value) for run in execution.runs if run.status == "ok")
    assert clean


async def test_hostile_programs_mixed_with_good_ones_change_no_good_result_and_leave_nothing_on_the_host():
    # Four workers, as some programs wait for their limit.
    runner = DockerRunner(SHORT, workers=4, run="tests-hostile-mixed")
    traces = ContainerLeftovers(engine.connect(), "tests-hostile-mixed")
    chance = random.Random(1)
    jobs = [job(program) for program in chance.sample(PROGRAMS, 40)] + [GOOD] * 120
    chance.shuffle(jobs)
    try:
        running = asyncio.create_task(runner.run(jobs))
        while not running.done():
            await asyncio.to_thread(traces.look)
            await asyncio.wait([running], timeout=0.3)
        good = [execution for which, execution in zip(jobs, running.result(), strict=True) if which == GOOD]
    finally:
        await runner.close()
    assert len(good) == 120
    assert [result.runs for result in good if [run.value for run in result.runs] != GOOD_VALUES] == []
    nothing_left(traces)


def requested(answer: str) -> Question:
    return Question(
        statement="Guess.", private=(IOPair(input="1", output=repr(answer)), IOPair(input="2", output=repr(answer)))
    )


def checked(answer: str) -> Question:
    checks = tuple(IOPair(input=f"assert candidate({argument}) == {answer!r}", output="") for argument in (1, 2))
    return Question(statement="Guess.", mode="checks", private=checks)


@pytest.mark.parametrize("asks", [requested, checked])
async def test_no_lie_about_a_result_passes(single, asks):
    lies = [program for name in ("answers", "interpreter") for program in CORPUS[name] if "time_limit" not in program["expect"]]
    texts = [f"```python\n{job(program).source}\n```" for program in lies]
    verifier = Verifier(single, pairs=2, public_pairs=0)
    judged = await verifier.judge(asks(uuid.uuid4().hex), "induction", None, texts)
    assert len(judged.verdicts) == len(lies) > 60
    assert {verdict.passed for verdict in judged.verdicts} == {0}


SEARCH = """
import ctypes, re
def f(x):
    # A pattern, not the words, lest it find itself.
    words = re.compile(b"gasp[-][a-z]+")
    found = set()
    for line in open("/proc/self/maps").readlines():
        if line.split()[1].startswith("r") and "[v" not in line:
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            for start in range(first, last, 1 << 20):
                found.update(words.findall(ctypes.string_at(start, min((1 << 20) + 99, last - start))))
    return sorted(word.decode() for word in found)
# gasp-own
"""


async def test_an_expected_answer_is_nowhere_in_the_memory_of_a_program(single):
    pair = IOPair(input="1", output="['gasp-own', 'gasp-secret']")
    verifier = Verifier(single, pairs=1, public_pairs=0)
    question = Question(statement="gasp-statement", program="def f(x): return 'gasp-program'", private=(pair,))
    judged = await verifier.judge(question, "induction", None, [f"```python\n{SEARCH}\n```"])
    assert [verdict.outcome for verdict in judged.verdicts] == ["wrong_answer"]
    (execution,) = await single.run([Job(source=SEARCH, inputs=("1",))])
    assert execution.runs[0].value == "['gasp-own']", "what is there must be found, or the search proves nothing"


async def test_no_other_program_nor_what_it_was_given_said_or_left_is_in_the_memory_of_a_program(single):
    says = Job(source="# gasp-source\ndef f(x): return '-'.join(('gasp', 'value')) * 200", inputs=("'gasp-input'",))
    raises = Job(source="def f(x): raise ValueError('-'.join(('gasp', 'reason')))", inputs=("1",))
    prints = Job(source="print('-'.join(('gasp', 'output')) * 200)", inputs=("gasp-stdin",), mode="stdin")
    leaves = Job(source="def f(x): open('/tmp/' + '-'.join(('gasp', 'file')), 'w').close()", inputs=("1",))
    forges = Job(
        source="import os\nfor fd in range(3, 20):\n try: os.write(fd, b'gasp-forged' * 999)\n except OSError: pass",
        inputs=("1",),
    )
    others = [says, raises, prints, leaves, forges]
    await single.run(others)
    search = Job(source=SEARCH, inputs=("1",))
    executions = await single.run([job for other in others for job in (search, other)] * 4)
    assert {execution.runs[0].value for execution in executions[::2]} == {"['gasp-own']"}
