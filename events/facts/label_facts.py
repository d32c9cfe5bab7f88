"""Facts about labels: outputs that no question set and no reference program gave, but answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from events.facts.fact import Fact
from events.facts.values import BlobHash, QuestionId, Seat


class LabelVoted(Fact):
    """The answers of an earlier event in this stream voted on the outputs of their question."""

    kind: Literal["label_voted"] = "label_voted"
    of: int
    """Version of the `AttemptsMade` in this stream."""
    seat: Seat
    """Which seat proposed the question."""
    question: QuestionId
    """Which question."""
    attempts: int
    """Answers asked; those without an output for every input have no vote."""
    voters: int
    """Answers with an output for every input."""
    votes: int
    """Answers in the largest group with equal outputs; 0 where nobody votes."""
    runner_up: int
    """Answers in the second largest group; 0 where there is none. Equal to `votes`: a tie."""
    label: BlobHash | None = None
    """JSON list of the winning outputs, in the order of the question's pairs; None where nobody won."""
    agrees: bool | None = None
    """Whether the label equals the outputs of the proposal's own program; None without a label."""
    right: bool | None = None
    """Whether the label equals the truth; None without a label, or where the world knows no truth."""
    truth: BlobHash | None = None
    """JSON list of the outputs of the program that the statement stands for; None where the world does not know it."""
    informed: Annotated[bool | None, Field(exclude_if=lambda informed: informed is None)] = None
    """Whether the voters saw the document that the question is about; those that did not are judged by the label of those that
    did, and their own decides nothing. None where there is no document."""
