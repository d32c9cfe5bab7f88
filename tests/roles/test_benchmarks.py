"""Real benchmarks on the real sandbox: references pass, mutants that the benchmark's own test rejects fail, graded solutions agree.

`python -m benchmarks.verdicts` does the same at length.
"""

from __future__ import annotations

import random

import pytest

from benchmarks import verdicts
from benchmarks.mutants import mutants
from benchmarks.suites import SUITES
from sandbox.host.docker_runner import DockerRunner
from tests.support.benchmark_data import DATA, record_file

pytestmark = pytest.mark.docker

NAMED = {suite.name: suite for suite in SUITES}
LONG = {f"HumanEval/{number}" for number in (15, 36, 59, 83, 94, 130, 139)}
LONG |= {f"Mbpp/{number}" for number in (84, 123, 255, 271, 300, 389, 392, 583, 589, 592, 599, 603, 630)}
"""References that take seconds on the tests of the plus versions; `benchmarks.verdicts` has them, too."""


def cases(name, most=None):
    """A benchmark and its cases, all or some drawn by a seed; skips the test where its records are absent."""
    suite = NAMED[name]
    record_file(suite.file)
    found = [case for case in suite.cases(DATA) if "+" not in name or case.name not in LONG]
    return suite, found if most is None else random.Random(1).sample(found, most)


async def played(limits, play):
    runner = DockerRunner(limits, workers=2, run="tests-benchmarks")
    try:
        return await play(runner)
    finally:
        await runner.close()


@pytest.mark.parametrize("most", [80, pytest.param(None, marks=pytest.mark.endurance)])
@pytest.mark.parametrize("name", ["HumanEval", "HumanEval+", "MBPP", "MBPP, sanitized", "MBPP+"])
async def test_every_reference_passes(name, most):
    suite, found = cases(name, most)
    references, _ = await played(verdicts.ROOMY, lambda runner: verdicts.compare_references(runner, suite, found))
    assert references.counts.total() == len(found)
    assert [one for one in references.disagreements if not (one.cause and one.ours == "passed")] == []


@pytest.mark.parametrize(("name", "most"), [("HumanEval", 40), ("HumanEval+", 15), ("MBPP", 40), ("MBPP+", 15)])
async def test_a_mutant_that_the_benchmarks_own_test_rejects_fails(name, most):
    suite, found = cases(name, most)
    drawn = await played(verdicts.SHORT, lambda runner: verdicts.compare_mutants(runner, suite, found, 1, seed=1))
    assert drawn.counts[False, False] > most / 3, "most mistakes are found by the benchmark's own test"
    assert [one for one in drawn.disagreements if not one.cause] == []


@pytest.mark.parametrize("rules", ["own", "livecodebench"])
async def test_graded_solutions_get_the_official_verdict(rules):
    record_file("lcb/full_records.jsonl")
    record_file("lcb/verdict_pairs.jsonl")
    found = await played(verdicts.OFFICIAL, lambda runner: verdicts.compare_graded(runner, DATA, rules, most=45))
    assert (found.counts.total(), found.disagreements) == (45, [])


def test_mutants_have_one_mistake_each_and_come_in_the_same_order():
    source = "def f(a):\n    s = 1\n    if a > 2 and s:\n        s += a\n    return s"
    found = mutants(source)
    assert found == mutants(source)
    assert len(set(found)) == len(found)
    lines = source.split("\n")
    assert all(sum(map(str.__ne__, lines, one.split("\n"))) <= 2 for one in found)
    for mistake in ("a >= 2", "a > 3", "or s", "not (a > 2", "s -= a", "return None", "pass"):
        assert any(mistake in one for one in found), mistake
