"""What became of each test of an attempt, as far as its verdict tells."""

from __future__ import annotations

from typing import Any, get_args

from events.facts.values import OUTCOME_LETTERS, IOPair, Outcome, Verdict
from events.pure.test_outcomes import judged_tests

PAIRS = [IOPair(input=str(number), output=str(number)) for number in range(3)]


def results(passed: int, total: int, *, per_test: bool = False, **verdict: Any) -> list[str]:
    recorded = Verdict.model_validate({"outcome": "wrong_answer", "passed": passed, "total": total, **verdict})
    return [test.result for test in judged_tests(PAIRS, 1, recorded, per_test=per_test)]


def test_in_older_logs_a_test_is_called_failed_only_where_the_verdict_leaves_no_other_way() -> None:
    assert results(0, 3) == ["failed"] * 3
    assert results(3, 3, outcome="passed") == ["passed"] * 3
    assert results(1, 3) == ["not_recorded"] * 3
    assert results(1, 3, per_test=True) == ["passed", "failed", "not_run"]
    assert results(0, 1, outcome="malformed") == ["not_run"] * 3


def test_a_verdict_that_tells_of_each_test_is_shown_test_by_test() -> None:
    assert results(1, 3, tests="w.t") == ["wrong_answer", "passed", "time_limit"]
    assert results(1, 3, tests=".r", per_test=True) == ["passed", "runtime_error", "not_run"]
    assert results(0, 1, outcome="malformed", tests="") == ["not_run"] * 3
    assert len(OUTCOME_LETTERS) == len(set(OUTCOME_LETTERS.values())) == len(get_args(Outcome)) - 1
