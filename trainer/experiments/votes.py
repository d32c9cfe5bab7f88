"""Votes of a run's answers on labels, with what their questions are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from events.facts.label_facts import LabelVoted
from events.facts.log import Log
from events.facts.questions import read_question
from events.facts.types import EpisodeStarted, QuestionValidated
from events.facts.values import BlobHash, QuestionId
from roles.pocket.world import read_statement

_KINDS: Final = ("episode_started", "question_validated", "label_voted")


class Stratum(NamedTuple):
    """What questions of the pocket world are counted together by."""

    region: Literal["target", "rest"]
    """`target` if any operation is of those that goalposts are made of."""
    rare: int
    """Rare operations."""


class VotedQuestion(NamedTuple):
    """A vote on the outputs of a proposed question."""

    iteration: int
    result: LabelVoted
    composition: Stratum | None
    """None for a statement that is not the pocket world's."""


def votes(log: Log) -> Iterator[VotedQuestion]:
    """All votes of a run that decide on a label, in the order of the log.

    Raises:
        LogCorrupt: a question is missing or damaged.
    """
    iterations: dict[str, int] = {}
    blobs: dict[QuestionId, BlobHash] = {}
    for event in log.read(kinds=_KINDS):
        match event.fact:
            case EpisodeStarted(iteration=iteration, question=question, blob=blob):
                iterations[event.stream], blobs[question] = iteration, blob
            case QuestionValidated(question=question, blob=blob):
                blobs[question] = blob
            case LabelVoted(question=question, informed=informed) as result if informed is not False:
                statement = read_question(log, blobs[question]).statement
                yield VotedQuestion(iterations[event.stream], result, composition(statement))


def composition(statement: str) -> Stratum | None:
    """What a statement is composed of; None if it is not the pocket world's."""
    steps = read_statement(statement)
    if steps is None:
        return None
    rare = [step.operation for step in steps if step.operation.rare]
    return Stratum("target" if any(operation.target for operation in rare) else "rest", len(rare))
