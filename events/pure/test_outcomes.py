"""What a verdict says about each test.

Law: honest. Verdicts of older schemas hold how many tests were passed, not which: there a test is called passed or failed only
where that number leaves no other way, else its result is said to be not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from events.facts.values import OUTCOME_LETTERS, IOPair, Outcome, Verdict

JudgedResult = Outcome | Literal["failed", "not_run", "not_recorded", "not_judged_yet"]


@dataclass(frozen=True)
class JudgedTest:
    """A test and what became of it."""

    pair: int
    """Place among the question's pairs, the public ones first."""
    public: bool
    input: str
    output: str
    """What was expected."""
    result: JudgedResult


def judged_tests(
    pairs: Sequence[IOPair], public: int, verdict: Verdict | None, *, per_test: bool, only: int | None = None
) -> list[JudgedTest]:
    """The tests in order, or the one pair that deduction and abduction ask for.

    Args:
        pairs: the question's.
        public: how many of them are public.
        verdict: None where there is none yet.
        per_test: whether the first failure ended the trial.
        only: the pair that was asked.
    """
    asked = range(len(pairs)) if only is None else range(only, only + 1) if only < len(pairs) else range(0)
    return [
        JudgedTest(place, place < public, pairs[place].input, pairs[place].output, _result(test, len(asked), verdict, per_test))
        for test, place in enumerate(asked)
    ]


def _result(test: int, count: int, verdict: Verdict | None, per_test: bool) -> JudgedResult:
    if verdict is None:
        return "not_judged_yet"
    if verdict.tests is None:
        return _told_by_count(test, count, verdict, per_test)
    return OUTCOME_LETTERS[verdict.tests[test]] if test < len(verdict.tests) else "not_run"


def _told_by_count(test: int, count: int, verdict: Verdict, per_test: bool) -> JudgedResult:
    if verdict.outcome == "malformed" or verdict.total != count:
        return "not_run"
    if verdict.passed == count:
        return "passed"
    if per_test:
        # Tests are run in the order of pairs, and the first failure was the last.
        return "passed" if test < verdict.passed else "failed" if test == verdict.passed else "not_run"
    return "not_recorded" if verdict.passed else "failed"
