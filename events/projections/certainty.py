"""How sure a student was of each answer of an evaluation, from the calibration in the evaluation's stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from events.facts.certainty_facts import CalibrationFinished
from events.facts.log import ReadableLog, first_fact
from events.facts.streams import is_evaluation
from events.facts.values import QuestionId


class AnswerCertainty(NamedTuple):
    """How sure a student was of one answer."""

    confidence: float
    """Geometric mean of the probabilities of its tokens, in [0, 1]."""
    certainty: float
    """P(sure) / (P(sure) + P(unsure)) when it was asked, in [0, 1]."""


CertaintyByQuestion = Mapping[QuestionId, Sequence[AnswerCertainty]]
"""Of all answers to a question, in their order."""


def certainty_by_question(log: ReadableLog, stream: str) -> CertaintyByQuestion:
    """Of the answers in a stream; empty where neither it nor the evaluation that it is a share of has a calibration."""
    for name in (stream, stream.rpartition("/")[0]):
        calibration = first_fact(log, name, CalibrationFinished) if is_evaluation(name) else None
        if calibration is not None:
            answers: dict[QuestionId, list[AnswerCertainty]] = {}
            for question, _, confidence, certainty in json.loads(log.get(calibration.scores)):
                answers.setdefault(QuestionId(question), []).append(AnswerCertainty(confidence, certainty))
            return answers
    return {}


def certainty_of(certainties: CertaintyByQuestion, question: QuestionId, index: int, count: int) -> AnswerCertainty | None:
    """Of one of the `count` answers to a question; None where there are not as many certainties."""
    own = certainties.get(question, ())
    return own[index] if len(own) == count else None
