"""Votes of answers: who wins, who has no vote, and what a tie is."""

from __future__ import annotations

import pytest

from roles.judging.vote import count_votes, outputs_of
from sandbox.runner import InputRun, JobResult

A, B, C = ("1", "[2]"), ("2", "[2]"), ("3", "[2]")


@pytest.mark.parametrize(
    ("answers", "ties", "expected"),
    [
        ([A, B, A], "none", (3, 2, 1, A)),
        ([A, B, B, A], "none", (4, 2, 2, None)),
        ([B, A, A, B], "first", (4, 2, 2, B)),
        ([A, B, C], "first", (3, 1, 1, A)),
        ([A], "none", (1, 1, 0, A)),
        ([None, None, None, A], "none", (1, 1, 0, A)),
        ([None, None], "first", (0, 0, 0, None)),
        ([], "none", (0, 0, 0, None)),
        # Equal as values: together they outvote B.
        ([B, B, ("1.0", "[2]"), ("1", "[2.0]"), ("1", "[2.00]")], "none", (5, 3, 2, ("1.0", "[2]"))),
    ],
)
def test_the_largest_group_of_equal_outputs_wins(answers, ties, expected):
    vote = count_votes(answers, ties)
    assert (vote.voters, vote.votes, vote.runner_up, vote.label) == expected
    assert vote.attempts == len(answers)


def test_only_an_output_for_every_input_is_a_vote():
    def result(*runs):
        return JobResult(
            runs=tuple(InputRun(status=status, value=text) for status, text in runs), seconds=0, cpu_seconds=0, peak_mb=0
        )

    assert outputs_of(result(("ok", "1"), ("ok", "[2]"))) == A
    assert outputs_of(result(("ok", "1"), ("runtime_error", ""))) is None
    assert outputs_of(result(("ok", "1"), ("ok", "<function f>"))) is None
