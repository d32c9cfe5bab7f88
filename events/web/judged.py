"""What a verdict says about each test.

Law: honest: a verdict holds how many tests were passed, not which. A test is called passed or failed only where that number
leaves no other way; else its result is said to be not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from events.values import Pair, Verdict

Result = Literal["passed", "failed", "not run", "not recorded", "not judged yet"]


@dataclass(frozen=True)
class Judged:
    """A test and what became of it."""

    pair: int
    """Place among the question's pairs, the public ones first."""
    public: bool
    input: str
    output: str
    """What was expected."""
    result: Result


def judged(
    pairs: Sequence[Pair], public: int, verdict: Verdict | None, *, per_test: bool, only: int | None = None
) -> list[Judged]:
    """The tests in order, or the one pair that deduction and abduction ask for.

    Args:
        pairs: the question's.
        public: how many of them are public.
        verdict: None where there is none yet.
        per_test: whether the first failure ended the trial.
        only: the pair that was asked.
    """
    asked = range(len(pairs)) if only is None else range(only, only + 1) if only < len(pairs) else range(0)
    results = _results(len(asked), verdict, per_test)
    return [
        Judged(place, place < public, pairs[place].input, pairs[place].output, result)
        for place, result in zip(asked, results, strict=True)
    ]


def _results(count: int, verdict: Verdict | None, per_test: bool) -> list[Result]:
    def result(place: int) -> Result:
        if verdict is None:
            return "not judged yet"
        if verdict.outcome == "malformed" or verdict.total != count:
            return "not run"
        if verdict.passed == count:
            return "passed"
        if per_test:
            # Tests are run in the order of pairs, and the first failure was the last.
            return "passed" if place < verdict.passed else "failed" if place == verdict.passed else "not run"
        return "not recorded" if verdict.passed else "failed"

    return [result(place) for place in range(count)]
