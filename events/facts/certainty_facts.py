"""Facts about texts that a student is given to learn, and about how well it knows what it knows."""

from __future__ import annotations

from typing import Literal

from events.facts.fact import Fact
from events.facts.values import BlobHash, Digest, QuestionId


class TextGiven(Fact):
    """The student was given a text to learn: nobody sampled it, and its loss is its negative log-likelihood."""

    kind: Literal["text_given"] = "text_given"
    question: QuestionId
    """The question that it answers."""
    prompt: BlobHash
    """Text of the prompt."""
    text: BlobHash
    """The text that follows the prompt."""
    tokens: BlobHash
    """Token arrays, see `events.facts.rollouts`: prompt ids, and the text's ids, of which nothing is learned where the mark
    `sampled` is False; logprobs are 0."""
    length: int
    """Tokens of the text that are learned."""
    certain: bool | None = None
    """Whether the answer counts as certain, which the text says unless uncertain ones are refused; None where nobody asked."""


class CalibrationFinished(Fact):
    """A policy's answers to a question set were compared with how sure it is of them."""

    kind: Literal["calibration_finished"] = "calibration_finished"
    name: str
    """The question set, as in the `EvaluationFinished` before it in this stream."""
    iteration: int
    """Iterations learned from so far; 0 is the start."""
    policy: Digest
    """The weights that answered."""
    answers: int
    """Answers, of all questions."""
    passed: int
    """Answers that passed."""
    refused: int
    """Answers that hold nothing of the asked form."""
    answered: int
    """Answers that are not refused and that the policy calls sure rather than unsure."""
    answered_passed: int
    """Those of them that passed."""
    ap_confidence: float | None
    """Average precision of answers ranked by confidence alone; None where none passed."""
    ap_certainty: float | None
    """Average precision of answers ranked by the mean of confidence and certainty; None where none passed."""
    ece: float
    """Expected calibration error of the certainty, in ten bins of equal width."""
    scores: BlobHash
    """JSON list, for each answer, of the question's id, whether it passed, its confidence (geometric mean of its tokens'
    probabilities) and its certainty P(sure) / (P(sure) + P(unsure)), each 0 to 1."""

    @property
    def accuracy(self) -> float:
        """Share of the answers that passed."""
        return self.passed / self.answers

    @property
    def answer_rate(self) -> float:
        """Share of the answers that were given willingly."""
        return self.answered / self.answers

    @property
    def accuracy_answered(self) -> float | None:
        """Share of the willingly given answers that passed; None where there are none."""
        return self.answered_passed / self.answered if self.answered else None
