"""Questions of a run about documents, each with the votes of answers that saw the document and of those that did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.drawn_facts import DocumentDrawn
from events.facts.label_facts import LabelVoted
from events.facts.log import Log
from events.facts.types import AttemptsVerified, EpisodeStarted
from events.facts.values import Level, count_passed

_KINDS: Final = ("episode_started", "document_drawn", "label_voted", "attempts_verified")


@dataclass
class DocumentQuestion:
    """A question about a document."""

    iteration: int
    level: Level
    """What it was written at."""
    informed: LabelVoted | None = None
    """The vote of answers that saw the document; None if there was none."""
    alone: LabelVoted | None = None
    """The vote of those that did not."""
    matching: float | None = None
    """Share of the latter that match the label of the former; None if none were compared."""


def document_questions(log: Log) -> list[DocumentQuestion]:
    """All questions of a run about documents that were asked, in the order of their episodes."""
    iterations: dict[str, int] = {}
    questions: dict[str, DocumentQuestion] = {}
    for event in log.read(kinds=_KINDS):
        match event.fact:
            case EpisodeStarted(iteration=iteration):
                iterations[event.stream] = iteration
            case DocumentDrawn(level=level):
                questions[event.stream] = DocumentQuestion(iterations[event.stream], level)
            case LabelVoted(informed=True) as vote:
                questions[event.stream].informed = vote
            case LabelVoted(informed=False) as vote:
                questions[event.stream].alone = vote
            case AttemptsVerified(verdicts=verdicts, provenance=provenance) if provenance.labels == "informed":
                passed = count_passed(verdicts)
                questions[event.stream].matching = passed / len(verdicts)
    return [question for question in questions.values() if question.informed is not None]
