"""An episode's state: ids and counters, folded from the events of its stream.

Guarantees: the state holds nothing that the log does not hold, and no texts, so resuming is folding.
Not responsible for: deciding what comes next (`graph.play.edges`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from pydantic import Field

from events.facts.certainty_facts import TextGiven
from events.facts.drawn_facts import DocumentDrawn, ReferencesDrawn
from events.facts.log import Event
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    GapMeasured,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
)
from events.facts.values import Axis, BlobHash, EpisodePurpose, Level, Seat, Task, Value
from graph.settings.seeds import seeded_rng


class PendingAttempts(Value):
    """Attempts that wait for their verdicts."""

    version: int
    """Version of the `AttemptsMade` event."""
    purpose: Purpose
    """What they were made for."""
    question: BlobHash
    """The question they answer."""
    task: Task
    pair: int | None
    """Index of the I/O pair that was asked about; None for induction."""


class AcceptedQuestion(Value):
    """An accepted question and the seat that wrote it."""

    seat: Seat
    """`easy` for a lemma, `hard` for a lift, `open` for an open question."""
    question: BlobHash


class EpisodeState(Value):
    """One episode so far."""

    stream: str
    version: int = 0
    """Events folded; what the next append expects."""
    iteration: int = 0
    purpose: EpisodePurpose = "guided"
    """Self-play with a goalpost, without one, or attempts at a real question."""
    question: BlobHash = BlobHash("")
    """The goalpost, the first reference, or the real question."""
    references: tuple[BlobHash, ...] = ()
    """Questions that the open seat is shown."""
    topic: str = ""
    """What the open seat writes about; empty where it is shown references instead."""
    set: int = 0
    """The set of questions that it adds to, from 1; 0 where there are no trials."""
    document: BlobHash | None = None
    """What the open seat writes about, or what the episode's own question is about."""
    level: Level | None = None
    """How difficult a question about the document is to be."""
    axis: Axis = "function"
    """What lemma and lift vary."""
    seed: int = 0
    """All seeds of the episode derive from it."""
    gap: float | None = None
    """The measured gap, 0 to 1; None before."""
    proposals: dict[Seat, int] = Field(default_factory=dict)
    proposal: int | None = None
    """Version of a `QuestionProposed` event that waits for the verifier."""
    candidate: BlobHash | None = None
    """A validated question whose pass rate is not measured yet."""
    proposed: int = 0
    """Version of the `QuestionProposed` event that the candidate came from."""
    seat: Seat = "easy"
    pending: tuple[PendingAttempts, ...] = ()
    """Attempts that wait for the verifier."""
    accepted: tuple[AcceptedQuestion, ...] = ()
    """The lemma, then the lift."""
    unsolved: tuple[AcceptedQuestion, ...] = ()
    """Accepted questions that the student has not answered in the task drawn for training; not all of them have to be."""
    attempted: bool = False
    """Whether the student has answered the episode's own question, the goalpost or the real question, or was given a text."""
    ended: bool = False
    """Whether the episode finished or failed."""


class PlayState(TypedDict):
    """The state that LangGraph carries from node to node."""

    episode: EpisodeState


def fold_episode(episode: EpisodeState, events: Iterable[Event]) -> EpisodeState:
    """The state after more events of its stream."""
    for event in events:
        episode = episode.model_copy(update={"version": event.version, **_changes(episode, event)})
    return episode


def _changes(state: EpisodeState, event: Event) -> dict[str, Any]:
    match event.fact:
        case EpisodeStarted() as fact:
            named = {name: getattr(fact, name) for name in ("iteration", "purpose", "axis", "seed", "topic", "set")}
            return {**named, "question": fact.blob}
        case ReferencesDrawn() | DocumentDrawn():
            return event.fact.model_dump(exclude={"kind"})
        case AttemptsMade():
            return _attempted(state, event.version, event.fact)
        case AttemptsVerified(of=of):
            return {"pending": tuple(made for made in state.pending if made.version != of)}
        case TextGiven():
            return {"attempted": True}
        case GapMeasured(gap=gap):
            return {"gap": gap}
        case QuestionProposed(seat=seat, attempt=attempt):
            proposals = state.proposals | {seat: attempt}
            return {"proposal": event.version, "proposed": event.version, "seat": seat, "proposals": proposals}
        case QuestionRejected():
            return {"proposal": None, "candidate": None}
        case QuestionValidated(blob=blob):
            return {"proposal": None, "candidate": blob}
        case QuestionAccepted(seat=seat, blob=blob):
            accepted = AcceptedQuestion(seat=seat, question=blob)
            return {"candidate": None, "accepted": (*state.accepted, accepted), "unsolved": (*state.unsolved, accepted)}
        case EpisodeFinished() | EpisodeFailed():
            return {"ended": True}
        case _:
            return {}


def _attempted(state: EpisodeState, version: int, fact: AttemptsMade) -> dict[str, Any]:
    asked = [state.question, *([state.candidate] if state.candidate else []), *(each.question for each in state.accepted)]
    # A question's id is a prefix of its blob's hash.
    blob = next(blob for blob in asked if blob.startswith(fact.question))
    pending = PendingAttempts(version=version, purpose=fact.purpose, question=blob, task=fact.task, pair=fact.pair)
    return {
        "pending": (*state.pending, pending),
        "unsolved": tuple(each for each in state.unsolved if fact.purpose != "solve" or each.question != blob),
        "attempted": state.attempted or fact.purpose in {"gap", "practice"},
    }


def training_task(seed: int, seat: Seat, tasks: Sequence[Task]) -> Task:
    """The task in which the student learns from a seat's question, drawn uniformly (arXiv 2603.15957, section 3.5)."""
    return seeded_rng(seed, "task", seat).choice(tasks)


def pass_rate_task(seed: int, seat: Seat, tasks: Sequence[Task]) -> Task:
    """The task in which a pass rate is measured: the drawn one for open questions, induction for all others."""
    return training_task(seed, seat, tasks) if seat == "open" else "induction"


def trains_on_pass_rate_attempts(seed: int, seat: Seat, tasks: Sequence[Task]) -> bool:
    """Whether the student learns from the same attempts that measured the pass rate."""
    return training_task(seed, seat, tasks) == pass_rate_task(seed, seat, tasks)
