"""Calibration: how sure a student is of the answers of an evaluation, and how well that tells right ones from wrong ones.

Guarantees: answers are taken from the log as they were sampled, and their tokens are never made again from text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.certainty_facts import CalibrationFinished
from events.facts.log import Log, first_fact
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, EvaluationFinished
from events.facts.values import QuestionId
from events.process.activity import Activity
from events.pure.calibration import average_precision, expected_calibration_error
from roles.certainty_words import WORDS
from roles.given_text import certainty_question
from roles.model import Model
from roles.prompt import Prompts


@dataclass(frozen=True)
class _Answer:
    """An answer in the log."""

    question: QuestionId
    passed: bool
    refused: bool
    tokens: tuple[int, ...]
    """[P + T] of prompt and answer."""
    confidence: float
    """Geometric mean of the probabilities of its sampled tokens."""


@dataclass(frozen=True)
class Calibrator:
    """Asks the student whether it is sure of its answers, and appends what comes out."""

    log: Log
    model: Model
    prompts: Prompts
    activity: Activity

    async def calibrate(self, stream: str, finished: EvaluationFinished, answers_in: Sequence[str] = ()) -> CalibrationFinished:
        """Append the calibration of a finished evaluation to its stream, or return the one that is there.

        The answers are those of its questions in the streams `answers_in`, by default in its own.
        """
        if (recorded := first_fact(self.log, stream, CalibrationFinished)) is not None:
            return recorded
        answers = [answer for name in answers_in or (stream,) for answer in self._answers(name)]
        with self.activity.task(f"asking how sure {finished.name} answers are", len(answers), phase="evaluation") as task:
            sure = []
            for answer in answers:
                sure.append(await self._sure(answer))
                task.add()
        fact = _calibration(self.log, finished, answers, sure)
        self.log.append(stream, [fact], key="calibration")
        return fact

    def _answers(self, stream: str) -> list[_Answer]:
        events = list(self.log.read(stream))
        made = {event.version: event.fact for event in events if isinstance(event.fact, AttemptsMade)}
        answers = []
        for fact in (event.fact for event in events if isinstance(event.fact, AttemptsVerified)):
            asked = made[fact.of]
            arrays = unpack_rollouts(self.log.get(asked.generation.tokens))
            for verdict, ids, logprobs, sampled in zip(fact.verdicts, arrays.ids, arrays.logprobs, arrays.sampled, strict=True):
                count = max(1, int(sampled.sum()))
                answers.append(
                    _Answer(
                        asked.question,
                        verdict.outcome == "passed",
                        verdict.outcome == "malformed",
                        (*arrays.prompt.tolist(), *ids.tolist()),
                        math.exp(float(logprobs[sampled].astype(float).sum()) / count),
                    )
                )
        return answers

    async def _sure(self, answer: _Answer) -> float:
        """P(sure) / (P(sure) + P(unsure)) behind an answer, of whole sentences."""
        encode = self.model.encoding.encode_text
        before = (*answer.tokens, *encode(certainty_question(self.prompts)))
        words = [encode(WORDS[certain]) for certain in (True, False)]
        sure, unsure = await self.model.continuation_logprobs(before, words)
        return 1 / (1 + math.exp(min(unsure - sure, 700.0)))


def _calibration(
    log: Log, finished: EvaluationFinished, answers: Sequence[_Answer], sure: Sequence[float]
) -> CalibrationFinished:
    right = [answer.passed for answer in answers]
    confidence = [answer.confidence for answer in answers]
    willing = [answer for answer, certainty in zip(answers, sure, strict=True) if certainty > 0.5 and not answer.refused]
    both = [(one + other) / 2 for one, other in zip(confidence, sure, strict=True)]
    scores = [
        [answer.question, answer.passed, answer.confidence, certainty] for answer, certainty in zip(answers, sure, strict=True)
    ]
    return CalibrationFinished(
        name=finished.name,
        iteration=finished.iteration,
        policy=finished.policy,
        answers=len(answers),
        passed=sum(right),
        refused=sum(answer.refused for answer in answers),
        answered=len(willing),
        answered_passed=sum(answer.passed for answer in willing),
        ap_confidence=average_precision(confidence, right),
        ap_certainty=average_precision(both, right),
        ece=expected_calibration_error(sure, right),
        scores=log.put(json.dumps(scores).encode()),
    )
