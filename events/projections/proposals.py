"""Folds the events of an episode into what became of each of its proposals."""

from __future__ import annotations

from dataclasses import dataclass

from events.facts.label_facts import LabelVoted
from events.facts.log import Event
from events.facts.types import (
    PassRateMeasured,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
    RewardGiven,
)
from events.facts.values import BlobHash, QuestionId, Seat


@dataclass
class ProposalState:
    """A proposal of one of the teacher's seats, and what became of it so far."""

    version: int
    seat: Seat
    attempt: int
    parent: QuestionId
    question: QuestionId | None = None
    blob: BlobHash | None = None
    accepted: bool = False
    rejected: Reason | None = None
    detail: str = ""
    similarity: float | None = None
    aligned: bool | None = None
    successes: int | None = None
    attempts: int | None = None
    agreeing: int = 0
    """Failed attempts with the same outputs; see `PassRateMeasured`."""
    reward: float | None = None
    vote: LabelVoted | None = None
    """The vote on its outputs; None where there was none."""
    vote_alone: LabelVoted | None = None
    """The vote of answers that did not see the document, which decides nothing; None where there is no document."""


def apply_proposal(event: Event, proposals: list[ProposalState]) -> None:
    """Apply an event of an episode to its proposals, of which there is one for each `QuestionProposed`, in order.

    A reward must be the teacher's.
    """
    match event.fact:
        case QuestionProposed(seat=seat, attempt=attempt, parent=parent):
            proposals.append(ProposalState(event.version, seat, attempt, parent))
        case QuestionRejected() as fact:
            last = proposals[-1]
            last.rejected, last.detail = fact.reason, fact.detail
            last.question, last.blob = fact.question or last.question, fact.blob or last.blob
        case QuestionValidated() as fact:
            last = proposals[-1]
            last.question, last.blob = fact.question, fact.blob
            last.similarity, last.aligned = fact.similarity, fact.aligned
        case LabelVoted(informed=False) as fact if proposals:
            proposals[-1].vote_alone = fact
        case LabelVoted() as fact if proposals:
            proposals[-1].vote = fact
        case PassRateMeasured() as fact:
            last = proposals[-1]
            last.successes, last.attempts, last.agreeing = fact.successes, fact.attempts, fact.agreeing
        case QuestionAccepted(question=question):
            next(proposal for proposal in reversed(proposals) if proposal.question == question).accepted = True
        case RewardGiven(of=of, rewards=rewards):
            next(proposal for proposal in proposals if proposal.version == of).reward = rewards[0]
