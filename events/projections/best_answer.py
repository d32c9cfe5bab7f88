"""The answer to a goalpost to look at first: the first that passed, or else the one that passed most tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.log import ReadableLog, read_facts
from events.facts.types import AttemptsVerified
from events.facts.values import QuestionId, Verdict
from events.index.reader import Index
from events.index.rows import GapEntry


@dataclass(frozen=True)
class BestAnswer:
    """Where the answer is: an event, by stream and version, and the index among its completions."""

    stream: str
    version: int
    index: int
    passed: bool

    @property
    def name(self) -> str:
        """What it is, in words."""
        return "the first answer that passed" if self.passed else "the best answer"


def best_answer(log: ReadableLog, index: Index, goalpost: QuestionId, gaps: Sequence[GapEntry]) -> BestAnswer | None:
    """The first answer that passed, or else the first that passed the largest share of its tests; None where none passed any.

    `gaps` are all measures, in order. Evaluations record no shares, so that of them only answers that passed count.
    """
    passed = next((gap for gap in gaps if gap.successes), None)
    measure = passed or max(gaps, key=lambda gap: gap.best_share or 0.0, default=None)
    if measure is None or not (measure.successes or measure.best_share):
        return None
    answers = [
        (verdict.passed / max(1, verdict.total), BestAnswer(entry.stream, entry.version, number, verdict.outcome == "passed"))
        for entry in reversed(index.answers(question=goalpost, stream=measure.stream))
        for number, verdict in enumerate(_verdicts(log, entry.stream, entry.version, entry.position))
    ]
    return max(answers, key=lambda answer: (answer[1].passed, answer[0]), default=(0.0, None))[1]


def _verdicts(log: ReadableLog, stream: str, version: int, after: int) -> tuple[Verdict, ...]:
    return next((fact.verdicts for fact in read_facts(log, AttemptsVerified, stream, after=after) if fact.of == version), ())
