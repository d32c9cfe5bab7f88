"""The story of one goalpost: its episodes, their lemmas and lifts, how often each was solved, what learned from it.

Law: read from the log alone. It prints nothing; `events.trace` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from events.errors import BadInput
from events.log import Event, Readable
from events.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    GapMeasured,
    GoalpostAdded,
    PassRateMeasured,
    PolicyUpdated,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    RewardGiven,
)
from events.values import Axis, BlobHash, Digest, QuestionId, Seat, Task


@dataclass
class AttemptsStory:
    """The student's answers to one prompt."""

    version: int
    purpose: Purpose
    question: QuestionId
    task: Task
    outcomes: dict[str, int] = field(default_factory=dict)
    """How many answers ended how; empty without verdicts."""
    rewards: tuple[float, ...] = ()


@dataclass
class ProposalStory:
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
    reward: float | None = None
    answers: list[AttemptsStory] = field(default_factory=list)


@dataclass
class EpisodeStory:
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
    answers: list[AttemptsStory] = field(default_factory=list)
    """Answers to the goalpost itself."""
    proposals: list[ProposalStory] = field(default_factory=list)
    ending: str | None = None
    """Reason of the end; None while it goes on."""
    failure: str | None = None
    learned: list[Digest] = field(default_factory=list)
    """Weights that learned from it."""


@dataclass
class GoalpostStory:
    """One goalpost from the first to the last measure."""

    question: QuestionId
    blob: BlobHash
    source: str
    episodes: list[EpisodeStory] = field(default_factory=list)
    gaps: list[tuple[int, float]] = field(default_factory=list)
    """Position and gap of every measure, by episodes and examinations."""


def find_goalpost(log: Readable, prefix: str) -> GoalpostAdded:
    """The goalpost whose id starts with `prefix`.

    Raises:
        BadInput: none or several do.
    """
    added = (event.fact for event in log.read("goalposts", kinds=("goalpost_added",)))
    found = {fact.question: fact for fact in added if isinstance(fact, GoalpostAdded) and fact.question.startswith(prefix)}
    if not found:
        raise BadInput(f"no goalpost of this run has an id that starts with {prefix!r}; leave the id out to see all")
    if len(found) > 1:
        raise BadInput(
            f"{len(found)} goalposts have ids that start with {prefix!r} ({', '.join(sorted(found)[:5])}); give more of it"
        )
    return next(iter(found.values()))


def tell(log: Readable, goalpost: GoalpostAdded) -> GoalpostStory:
    """Everything that happened to the goalpost so far."""
    story = GoalpostStory(goalpost.question, goalpost.blob, goalpost.source)
    updates: list[PolicyUpdated] = []
    for event in log.read(kinds=("episode_started", "gap_measured", "evaluation_finished", "policy_updated")):
        match event.fact:
            case EpisodeStarted(question=question, purpose="guided") if question == goalpost.question:
                story.episodes.append(_episode(event.fact, event, log.read(event.stream, after=event.position)))
            case GapMeasured(question=question, gap=gap) if question == goalpost.question:
                story.gaps.append((event.position, gap))
            case EvaluationFinished(successes=successes, attempts=attempts) if goalpost.question in successes:
                story.gaps.append((event.position, 1 - successes[goalpost.question] / attempts))
            case PolicyUpdated() as fact:
                updates.append(fact)
    for episode in story.episodes:
        if episode.gap is not None:
            episode.gap_after = next((gap for position, gap in story.gaps if position > episode.gap_position), None)
        if episode.failure is None:
            episode.learned = [update.digest for update in updates if update.iteration == episode.iteration]
    return story


def _episode(started: EpisodeStarted, event: Event, rest: Iterable[Event]) -> EpisodeStory:
    story = EpisodeStory(event.stream, started.iteration, started.axis, event.position)
    answers: dict[int, AttemptsStory] = {}
    for later in rest:
        match later.fact:
            case GapMeasured(gap=gap, best_share=share):
                story.gap, story.gap_position, story.best_share = gap, later.position, share
            case AttemptsMade() as fact:
                told = AttemptsStory(later.version, fact.purpose, fact.question, fact.task)
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


def apply_proposal(event: Event, proposals: list[ProposalStory]) -> None:
    """Take an event into account that tells of an episode's proposals."""
    match event.fact:
        case QuestionProposed(seat=seat, attempt=attempt, parent=parent):
            proposals.append(ProposalStory(event.version, seat, attempt, parent))
        case QuestionRejected() as fact:
            last = proposals[-1]
            last.rejected, last.detail = fact.reason, fact.detail
            last.question, last.blob = fact.question or last.question, fact.blob or last.blob
        case QuestionValidated() as fact:
            last = proposals[-1]
            last.question, last.blob = fact.question, fact.blob
            last.similarity, last.aligned = fact.similarity, fact.aligned
        case PassRateMeasured(successes=successes, attempts=attempts):
            proposals[-1].successes, proposals[-1].attempts = successes, attempts
        case QuestionAccepted(question=question):
            next(proposal for proposal in reversed(proposals) if proposal.question == question).accepted = True
        case RewardGiven(of=of, rewards=rewards):
            next(proposal for proposal in proposals if proposal.version == of).reward = rewards[0]
