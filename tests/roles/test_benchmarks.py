"""Real benchmarks on the real sandbox: references pass, mutants that the benchmark's own test rejects fail, graded solutions agree.

`python -m benchmarks.verdicts` does the same at length.
"""

from __future__ import annotations

import asyncio
import random
from functools import cache

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


@pytest.fixture(scope="module")
def runners():
    """A runner for each of the limits that are asked for."""
    made = cache(lambda limits: runners.append(DockerRunner(limits, workers=2, run="tests-benchmarks")) or runners[-1])
    runners: list[DockerRunner] = []
    yield made
    for runner in runners:
        asyncio.run(runner.close())


def cases(name, most=None):
    """A benchmark and its cases, all or some drawn by a seed; skips the test where its records are absent."""
    suite = NAMED[name]
    record_file(suite.file)
    cases = [case for case in suite.cases(DATA) if "+" not in name or case.name not in LONG]
    if name == "MBPP, sanitized":
        # Of two problems in three, reference and tests are those of MBPP.
        expected = {(case.question.program, case.question.pairs, case.test) for case in NAMED["MBPP"].cases(DATA)}
        cases = [case for case in cases if (case.question.program, case.question.pairs, case.test) not in expected]
    return suite, cases if most is None else random.Random(1).sample(cases, most)


@pytest.mark.parametrize("most", [pytest.param(80, marks=pytest.mark.excerpt), pytest.param(None, marks=pytest.mark.endurance)])
@pytest.mark.parametrize("name", ["HumanEval", "HumanEval+", "MBPP", "MBPP, sanitized", "MBPP+"])
async def test_every_reference_passes(runners, name, most):
    suite, drawn = cases(name, most)
    references, _ = await verdicts.compare_references(runners(verdicts.ROOMY), suite, drawn)
    assert references.counts.total() == len(drawn) >= 80
    assert [each for each in references.disagreements if not (each.cause and each.ours == "passed")] == []


@pytest.mark.parametrize(("name", "most"), [("HumanEval", 40), ("HumanEval+", 15), ("MBPP", 40), ("MBPP+", 15)])
async def test_a_mutant_that_the_benchmarks_own_test_rejects_fails(runners, name, most):
    suite, drawn = cases(name, most)
    comparison = await verdicts.compare_mutants(runners(verdicts.SHORT), suite, drawn, 1, seed=1)
    assert comparison.counts[False, False] > most / 3, "most mistakes are found by the benchmark's own test"
    assert [each for each in comparison.disagreements if not each.cause] == []


@pytest.mark.parametrize("rules", ["own", "livecodebench"])
async def test_graded_solutions_get_the_official_verdict(runners, rules):
    record_file("lcb/full_records.jsonl")
    record_file("lcb/verdict_pairs.jsonl")
    comparison = await verdicts.compare_graded(runners(verdicts.OFFICIAL), DATA, rules, most=45)
    assert (comparison.counts.total(), comparison.disagreements) == (45, [])


def test_mutants_have_one_mistake_each_and_come_in_the_same_order():
    source = "def f(a):\n    s = 1\n    if a > 2 and s:\n        s += a\n    return s"
    made = mutants(source)
    assert made == mutants(source)
    assert len(set(made)) == len(made)
    lines = source.split("\n")
    assert all(sum(map(str.__ne__, lines, mutant.split("\n"))) <= 2 for mutant in made)
    for mistake in ("a >= 2", "a > 3", "or s", "not (a > 2", "s -= a", "return None", "pass"):
        assert any(mistake in mutant for mutant in made), mistake
