"""Real benchmarks on the real sandbox: references pass, mutants that the benchmark's own test rejects fail, graded solutions agree.

`python -m benchmarks.verdicts` does the same at length.
"""

from __future__ import annotations

import random

import pytest

from benchmarks import verdicts
from benchmarks.mutants import mutants
from benchmarks.suites import SUITES
from sandbox.docker import DockerRunner
from tests.data import DATA, record_file

pytestmark = [pytest.mark.docker, pytest.mark.slow]

NAMED = {suite.name: suite for suite in SUITES}
LONG = {
    *("HumanEval/15", "HumanEval/25", "HumanEval/32", "HumanEval/36", "HumanEval/59", "HumanEval/83", "HumanEval/94"),
    *("HumanEval/100", "HumanEval/130", "HumanEval/139"),
}
"""References that take a second or more on their tests."""
BROKEN = {
    "HumanEval+ in HumanEval's layout: HumanEval/32": ("runtime_error", "rejects"),
    "MBPP+: Mbpp/120": ("passed", "rejects"),
}
"""References that the benchmark's own test rejects; docs/verdicts.md has the reasons."""




def cases(name, most=None):
    """Cases of a benchmark, skipping the test where its records are absent."""
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
