"""The story of one goalpost: its episodes, their lemmas and lifts, how often each was solved, what learned from it.

Law: the index says where things are, and only the goalpost's own streams are read, however long the log is. It prints nothing;
`events.trace` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from events.facts.errors import BadInput
from events.facts.log import Event, ReadableLog
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    GapMeasured,
    PassRateMeasured,
    PolicyUpdated,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    RewardGiven,
)
from events.facts.values import Axis, BlobHash, Digest, QuestionId, Seat, Task
from events.index.reader import Index


@dataclass
class AttemptGroup:
    """The student's answers to one prompt."""

    version: int
    purpose: Purpose
    question: QuestionId
    task: Task
    outcomes: dict[str, int] = field(default_factory=dict)
    """How many answers ended how; empty without verdicts."""
    rewards: tuple[float, ...] = ()


@dataclass
class ProposalHistory:
    """One proposal of a teacher's seat."""

    version: int
    seat: Seat
    attempt: int
    parent: QuestionId
    question: QuestionId | None = None
    blob: BlobHash | None = None
    accepted: bool = False
    rejected: str | None = None
    """Reason."""
    detail: str = ""
    similarity: float | None = None
    aligned: bool | None = None
    successes: int | None = None
    attempts: int | None = None
    agreeing: int = 0
    """Failed attempts with the same outputs; see `PassRateMeasured`."""
    reward: float | None = None
    answers: list[AttemptGroup] = field(default_factory=list)


@dataclass
class EpisodeHistory:
    """One walk through the graph."""

    stream: str
    iteration: int
    axis: Axis
    position: int
    """Where it began."""
    gap: float | None = None
    gap_position: int = 0
    """Where it was measured."""
    best_share: float | None = None
    gap_after: float | None = None
    """The next gap that was measured at this goalpost, by an episode or an examination."""
    answers: list[AttemptGroup] = field(default_factory=list)
    """Answers to the goalpost itself."""
    proposals: list[ProposalHistory] = field(default_factory=list)
    ending: str | None = None
    """Reason of the end; None while it goes on."""
    failure: str | None = None
    learned: list[Digest] = field(default_factory=list)
    """Weights that learned from it."""


@dataclass
class GoalpostHistory:
    """One goalpost from the first to the last measure."""

    question: QuestionId
    blob: BlobHash
    source: str
    episodes_in_all: int
    """How many there are; the latest of them are told."""
    episodes: list[EpisodeHistory] = field(default_factory=list)
    gaps: list[tuple[int, float]] = field(default_factory=list)
    """Position and gap of every measure, by episodes and examinations."""


def statement_doubt(attempts: int | None, agreeing: int) -> str:
    """Why a statement may not describe its program; empty where attempts do not agree on something else."""
    if not agreeing:
        return ""
    return f"{agreeing} of {attempts} attempts agree with each other, not with the program: the statement may not describe it"


def goalpost_history(log: ReadableLog, index: Index, goalpost: QuestionId, *, limit: int | None = None) -> GoalpostHistory:
    """What happened to the goalpost so far: every measure, and its episodes in order, of which only the streams are read.

    Args:
        log: the log.
        index: its index, which says where things are.
        goalpost: which.
        limit: so many episodes at most, the latest; None tells all.

    Raises:
        BadInput: the run has no such goalpost.
    """
    found = index.goalpost(goalpost)
    if found is None:
        raise BadInput(f"no goalpost of this run has the id {goalpost!r}; `python -m events.trace RUN` lists them")
    gaps = [(measured.position, measured.gap) for measured in index.gaps(goalpost)]
    story = GoalpostHistory(goalpost, found.blob, found.source, episodes_in_all=found.episodes, gaps=gaps)
    updates = [event.fact for event in log.read(kinds=("policy_updated",))]
    for row in reversed(index.episodes(goalpost, limit=found.episodes if limit is None else limit)):
        learners = [fact.digest for fact in updates if isinstance(fact, PolicyUpdated) and fact.iteration == row.iteration]
        story.episodes.append(episode_history(log, row.stream, gaps, learners, until=index.position))
    return story


def episode_history(
    log: ReadableLog,
    stream: str,
    gaps: Sequence[tuple[int, float]] = (),
    learners: Sequence[Digest] = (),
    *,
    until: int | None = None,
) -> EpisodeHistory:
    """One episode.

    Args:
        log: the log.
        stream: the episode's.
        gaps: position and gap of the goalpost's measures, in order.
        learners: weights that learned from its iteration.
        until: what was appended behind this position is not told.
    """
    first, *rest = (event for event in log.read(stream) if until is None or event.position <= until)
    assert isinstance(first.fact, EpisodeStarted)
    episode = _episode(first.fact, first, rest)
    if episode.gap is not None:
        episode.gap_after = next((gap for position, gap in gaps if position > episode.gap_position), None)
    if episode.failure is None:
        episode.learned = list(learners)
    return episode


def _episode(started: EpisodeStarted, event: Event, rest: Iterable[Event]) -> EpisodeHistory:
    story = EpisodeHistory(event.stream, started.iteration, started.axis, event.position)
    answers: dict[int, AttemptGroup] = {}
    for later in rest:
        match later.fact:
            case GapMeasured(gap=gap, best_share=share):
                story.gap, story.gap_position, story.best_share = gap, later.position, share
            case AttemptsMade() as fact:
                told = AttemptGroup(later.version, fact.purpose, fact.question, fact.task)
                answers[later.version] = told
                about = (proposal for proposal in reversed(story.proposals) if proposal.question == fact.question)
                proposal = next(about, None)
                (story.answers if proposal is None else proposal.answers).append(told)
            case AttemptsVerified(of=of, verdicts=verdicts):
                answers[of].outcomes = dict(Counter(verdict.outcome for verdict in verdicts))
            case RewardGiven(of=of, rewards=rewards) if of in answers:
                answers[of].rewards = rewards
            case EpisodeFinished(reason=reason):
                story.ending = reason
            case EpisodeFailed(error=error, message=message):
                story.ending, story.failure = "failed", f"{error}: {message}"
            case _:
                apply_proposal(later, story.proposals)
    return story


def apply_proposal(event: Event, proposals: list[ProposalHistory]) -> None:
    """Take an event into account that tells of an episode's proposals."""
    match event.fact:
        case QuestionProposed(seat=seat, attempt=attempt, parent=parent):
            proposals.append(ProposalHistory(event.version, seat, attempt, parent))
        case QuestionRejected() as fact:
            last = proposals[-1]
            last.rejected, last.detail = fact.reason, fact.detail
            last.question, last.blob = fact.question or last.question, fact.blob or last.blob
        case QuestionValidated() as fact:
            last = proposals[-1]
            last.question, last.blob = fact.question, fact.blob
            last.similarity, last.aligned = fact.similarity, fact.aligned
        case PassRateMeasured() as fact:
            last = proposals[-1]
            last.successes, last.attempts, last.agreeing = fact.successes, fact.attempts, fact.agreeing
        case QuestionAccepted(question=question):
            next(proposal for proposal in reversed(proposals) if proposal.question == question).accepted = True
        case RewardGiven(of=of, rewards=rewards):
            next(proposal for proposal in proposals if proposal.version == of).reward = rewards[0]
