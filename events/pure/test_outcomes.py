"""The result of each test, from a verdict.

Verdicts of older schemas hold how many tests were passed, not which: there a test is passed or failed only where that number
leaves no other possibility, and else `not_recorded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from events.facts.values import OUTCOME_LETTERS, IOPair, Outcome, Verdict

JudgedResult = Outcome | Literal["failed", "not_run", "not_recorded", "not_judged_yet"]


@dataclass(frozen=True)
class JudgedTest:
    """A test and its result."""

    pair: int
    """Index among the question's pairs, the public ones first."""
    public: bool
    input: str
    output: str
    """The expected output."""
    result: JudgedResult


def judged_tests(
    pairs: Sequence[IOPair], public: int, verdict: Verdict | None, *, per_test: bool, only: int | None = None
) -> list[JudgedTest]:
    """All tests in order, or the single one of deduction and abduction, `only` being the index of the pair asked for.

    The first `public` pairs are public. `per_test` tells whether the first failure ended the tests.
    """
    indices = range(len(pairs)) if only is None else range(only, only + 1) if only < len(pairs) else range(0)
    return [
        JudgedTest(
            index, index < public, pairs[index].input, pairs[index].output, _result(test, len(indices), verdict, per_test)
        )
        for test, index in enumerate(indices)
    ]


def _result(test: int, count: int, verdict: Verdict | None, per_test: bool) -> JudgedResult:
    if verdict is None:
        return "not_judged_yet"
    if verdict.tests is None:
        return _result_by_count(test, count, verdict, per_test)
    return OUTCOME_LETTERS[verdict.tests[test]] if test < len(verdict.tests) else "not_run"


def _result_by_count(test: int, count: int, verdict: Verdict, per_test: bool) -> JudgedResult:
    if verdict.outcome == "malformed" or verdict.total != count:
        return "not_run"
    if verdict.passed == count:
        return "passed"
    if per_test:
        # Tests run in the order of pairs, and end with the first failure.
        return "passed" if test < verdict.passed else "failed" if test == verdict.passed else "not_run"
    return "not_recorded" if verdict.passed else "failed"
