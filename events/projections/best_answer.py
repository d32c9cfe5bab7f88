"""The answer to a goalpost that a person should look at first: the one that passed, or came nearest.

Law: a reader of the log; the index says where answers are, the recorded verdicts which of them is nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.log import ReadableLog
from events.facts.types import AttemptsVerified
from events.facts.values import QuestionId, Verdict
from events.index.reader import Index
from events.index.rows import GapEntry


@dataclass(frozen=True)
class BestAnswer:
    """Where it is."""

    stream: str
    version: int
    index: int
    passed: bool

    @property
    def name(self) -> str:
        """What it is, in words."""
        return "the first answer that passed" if self.passed else "the nearest answer"


def best_answer(log: ReadableLog, index: Index, goalpost: QuestionId, gaps: Sequence[GapEntry]) -> BestAnswer | None:
    """The first answer that passed, or else the first that passed the largest share of its tests; None where none passed any.

    Args:
        log: holds the verdicts.
        index: says where the answers are.
        goalpost: which.
        gaps: every measure of it, in order. Examinations record no shares, so that of them only what passed counts.
    """
    passed = next((gap for gap in gaps if gap.successes), None)
    measure = passed or max(gaps, key=lambda gap: gap.best_share or 0.0, default=None)
    if measure is None or not (measure.successes or measure.best_share):
        return None
    found = [
        (_share(verdict), BestAnswer(made.stream, made.version, place, verdict.outcome == "passed"))
        for made in reversed(index.answers(question=goalpost, stream=measure.stream))
        for place, verdict in enumerate(_verdicts(log, made.stream, made.version, made.position))
    ]
    return max(found, key=lambda one: (one[1].passed, one[0]), default=(0.0, None))[1]


def _share(verdict: Verdict) -> float:
    return verdict.passed / max(1, verdict.total)


def _verdicts(log: ReadableLog, stream: str, version: int, after: int) -> tuple[Verdict, ...]:
    facts = (event.fact for event in log.read(stream, after=after, kinds=("attempts_verified",)))
    return next((fact.verdicts for fact in facts if isinstance(fact, AttemptsVerified) and fact.of == version), ())
