"""Projections of a whole run, folded from its events in one pass: the summary, accepted questions, counts of completions.

Guarantees: a projection depends on the events alone, so that it is the same live, after a resume and years later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol, TypeVar

from events.facts.label_facts import LabelVoted
from events.facts.log import Event
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    GapMeasured,
    GoalpostAdded,
    IterationFinished,
    IterationStarted,
    PassRateMeasured,
    PolicyServed,
    PolicyUpdated,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    RewardGiven,
    RunFinished,
    RunResumed,
    RunStarted,
)
from events.facts.values import BlobHash, Digest, QuestionId, Role, Seat
from events.projections.players import Players


class Projection(Protocol):
    """A fold over events, in order of position."""

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        ...


P = TypeVar("P", bound=Projection)


def fold(projection: P, events: Iterable[Event]) -> P:
    """Apply events to a projection and return it."""
    for event in events:
        projection.apply(event)
    return projection


@dataclass
class RunningMean:
    """A mean of values that are added one after another."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float, count: int = 1) -> None:
        """Add `count` values whose sum is `value`."""
        self.total += value
        self.count += count

    @property
    def value(self) -> float | None:
        """The mean; None of no values."""
        return self.total / self.count if self.count else None


@dataclass
class AcceptedQuestions:
    """Accepted questions of each seat, in the order of their acceptance; new proposals must differ from them."""

    easy: list[BlobHash] = field(default_factory=list)
    hard: list[BlobHash] = field(default_factory=list)
    open: list[BlobHash] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        if isinstance(event.fact, QuestionAccepted):
            self.of(event.fact.seat).append(event.fact.blob)

    def of(self, seat: Seat) -> list[BlobHash]:
        """Blobs of the seat's accepted questions."""
        return {"easy": self.easy, "hard": self.hard, "open": self.open}[seat]


@dataclass
class VoteFigures:
    """Votes of answers on the outputs of proposed questions."""

    agreement: RunningMean = field(default_factory=RunningMean)
    """Share of the answers that are in the largest group."""
    tied: RunningMean = field(default_factory=RunningMean)
    """Share of the votes whose two largest groups are equal."""
    labelled: RunningMean = field(default_factory=RunningMean)
    """Share of the votes that somebody won."""
    right: RunningMean = field(default_factory=RunningMean)
    """Share of the labels that equal the truth, where the world knows it."""

    def apply(self, fact: LabelVoted) -> None:
        """Count one vote."""
        self.agreement.add(fact.votes / fact.attempts)
        self.tied.add(0 < fact.votes == fact.runner_up)
        self.labelled.add(fact.label is not None)
        if fact.right is not None:
            self.right.add(fact.right)

    def values(self) -> dict[str, float | None]:
        """The means by name."""
        means = {"agreement": self.agreement, "tied": self.tied, "labelled": self.labelled, "right": self.right}
        return {name: mean.value for name, mean in means.items()}


@dataclass
class SeatFigures:
    """Proposals of one of the teacher's seats in one iteration."""

    proposed: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    pass_rate: RunningMean = field(default_factory=RunningMean)
    """Of validated questions whose pass rate was measured."""
    aligned: RunningMean = field(default_factory=RunningMean)
    """Share of questions whose statement and program agree, where the question set can tell."""
    similarity: RunningMean = field(default_factory=RunningMean)
    """Largest similarity of a validated question to an accepted one, on average."""
    reward: RunningMean = field(default_factory=RunningMean)
    parents: set[QuestionId] = field(default_factory=set)
    """Questions that were varied."""
    votes: VoteFigures = field(default_factory=VoteFigures)
    """Of questions whose answers voted."""

    @property
    def diversity(self) -> float | None:
        """1 - mean similarity: 1 where every question is new, 0 where all repeat."""
        return None if self.similarity.value is None else 1 - self.similarity.value

    def add(self, other: SeatFigures) -> None:
        """Add another iteration of the seat."""
        self.proposed += other.proposed
        self.accepted += other.accepted
        self.rejected.update(other.rejected)
        self.parents |= other.parents
        for mean, added in zip(self._means, other._means, strict=True):
            mean.add(added.total, added.count)

    @property
    def _means(self) -> tuple[RunningMean, ...]:
        votes = self.votes
        named = self.pass_rate, self.aligned, self.similarity, self.reward
        return (*named, votes.agreement, votes.tied, votes.labelled, votes.right)


@dataclass
class IterationFigures:
    """Figures of one iteration."""

    number: int
    began: datetime
    episodes: int
    """Episodes that were announced, those on real data included."""
    policies: Mapping[Role, Digest]
    position: int = 0
    """Position of the event that began it."""
    ended: datetime | None = None
    finished: int = 0
    failed: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    """Reasons for the end of episodes with a teacher."""
    gap: RunningMean = field(default_factory=RunningMean)
    """Of the goalposts that were tried."""
    practice: RunningMean = field(default_factory=RunningMean)
    """Share of attempts at real data that passed."""
    student_reward: RunningMean = field(default_factory=RunningMean)
    solve: RunningMean = field(default_factory=RunningMean)
    """Share of answers to accepted questions that were rewarded, that is, passed."""
    lengths: dict[Role, RunningMean] = field(default_factory=lambda: {"teacher": RunningMean(), "student": RunningMean()})
    """Tokens a completion, those of evaluations left out."""
    seats: dict[Seat, SeatFigures] = field(default_factory=lambda: {"easy": SeatFigures(), "hard": SeatFigures()})
    """The open seat is in it once it has proposed."""

    @property
    def tokens(self) -> int:
        """Completion tokens, those of evaluations left out."""
        return int(sum(length.total for length in self.lengths.values()))


@dataclass
class GoalpostFigures:
    """Figures of one goalpost, by episodes alone."""

    source: str
    measured: int = 0
    first_gap: float | None = None
    last_gap: float | None = None
    best_share: float = 0.0
    """Largest share of tests that any attempt passed."""


@dataclass
class CompletionCount:
    """Counts the student's completions, those of evaluations left out: the unit of budgets."""

    KINDS: ClassVar = frozenset({"attempts_made", "iteration_finished"})
    """Kinds of events that it needs."""
    position: int = 0
    total: int = 0
    after: dict[int, int] = field(default_factory=lambda: {0: 0})
    """Completions at the end of each iteration."""

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        self.position = event.position
        match event.fact:
            case AttemptsMade(purpose=purpose, generation=generation) if purpose != "evaluation":
                self.total += generation.count
            case IterationFinished(iteration=number):
                self.after[number] = self.total


_SEATS: dict[str, Seat] = {"easy": "easy", "hard": "hard"}
"""Seats by the task of their rewards; rewards of the open seat name tasks of the student instead."""


@dataclass
class _OpenEpisode:
    """An episode that has not ended."""

    iteration: int
    purpose: str
    waiting: set[int] = field(default_factory=set)
    """Versions of attempts at real data that have no verdicts yet."""


@dataclass
class RunSummary:
    """The whole run. It grows with iterations and goalposts only."""

    position: int = 0
    """Last position applied."""
    began: datetime | None = None
    latest: datetime | None = None
    started: RunStarted | None = None
    played: float = 0.0
    """Seconds between events, except between a stop and its resume, and after the end."""
    resumed: int = 0
    finished: bool = False
    iterations: dict[int, IterationFigures] = field(default_factory=dict)
    goalposts: dict[QuestionId, GoalpostFigures] = field(default_factory=dict)
    evaluations: list[EvaluationFinished] = field(default_factory=list)
    updates: list[PolicyUpdated] = field(default_factory=list)
    speeds: list[float | None] = field(default_factory=list)
    """Tokens/s of each update."""
    policies: dict[Role, Digest] = field(default_factory=dict)
    served: dict[Role, PolicyServed] = field(default_factory=dict)
    """The last weight-sync check of each role."""
    lemmas: int = 0
    lifts: int = 0
    open_questions: int = 0
    tokens: int = 0
    """Completion tokens of the whole run, evaluations included."""
    samples: CompletionCount = field(default_factory=CompletionCount)
    players: Players = field(default_factory=Players)
    """Who plays which share; empty where `play.shares` is 1."""
    _open: dict[str, _OpenEpisode] = field(default_factory=dict, repr=False)
    """Episodes that have not ended, by stream."""

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        self._tick(event)
        self.samples.apply(event)
        self.players.apply(event, self.shares)
        match event.fact:
            case RunStarted() as fact:
                self.started, self.policies = fact, dict(fact.policies)
            case RunResumed():
                self.resumed, self.finished = self.resumed + 1, False
            case RunFinished():
                self.finished = True
            case GoalpostAdded(question=question, source=source):
                self.goalposts.setdefault(question, GoalpostFigures(source))
            case IterationStarted(iteration=number, policies=policies, episodes=episodes):
                self.policies = dict(policies)
                self.iterations[number] = IterationFigures(number, event.time, episodes, policies, event.position)
            case IterationFinished(iteration=number):
                self.iterations[number].ended = event.time
            case PolicyUpdated() as fact:
                self.updates.append(fact)
                self.speeds.append(event.observed.get("tokens_per_second"))
            case PolicyServed(role=role, policy=policy) as fact:
                self.policies[role], self.served[role] = policy, fact
            case EvaluationFinished() as fact:
                self.evaluations.append(fact)
            case EpisodeStarted() as fact:
                self._open[event.stream] = _OpenEpisode(fact.iteration, fact.purpose)
            case AttemptsMade(generation=generation) | QuestionProposed(generation=generation):
                self.tokens += generation.length
        if event.stream in self._open:
            self._episode(event, self._open[event.stream])

    @property
    def shares(self) -> int:
        """The setting `play.shares`."""
        play = self.started.config.get("play") if self.started else None
        return int(play.get("shares", 1)) if isinstance(play, dict) else 1

    @property
    def corrects_mismatch(self) -> bool:
        """Whether `learn.importance` weighs what sampler and trainer differ by."""
        learn = self.started.config.get("learn") if self.started else None
        return isinstance(learn, dict) and learn.get("importance", "none") != "none"

    def _tick(self, event: Event) -> None:
        # Evaluations after the end are not part of the run.
        if self.latest is not None and not self.finished and not isinstance(event.fact, RunResumed):
            self.played += (event.time - self.latest).total_seconds()
        self.position, self.latest = event.position, event.time
        self.began = self.began or event.time

    def _episode(self, event: Event, episode: _OpenEpisode) -> None:
        figures = self.iterations[episode.iteration]
        match event.fact:
            case GapMeasured() as fact:
                figures.gap.add(fact.gap)
                self._gap(fact)
            case AttemptsMade(generation=generation):
                figures.lengths["student"].add(generation.length, generation.count)
                if episode.purpose == "practice":
                    episode.waiting.add(event.version)
            case AttemptsVerified(of=of, verdicts=verdicts) if of in episode.waiting:
                episode.waiting.discard(of)
                figures.practice.add(sum(verdict.outcome == "passed" for verdict in verdicts), len(verdicts))
            case RewardGiven(role="student", rewards=rewards, phase=phase):
                figures.student_reward.add(sum(rewards), len(rewards))
                if phase == "solve":
                    figures.solve.add(sum(reward > 0 for reward in rewards), len(rewards))
            case EpisodeFinished(reason=reason):
                figures.finished += 1
                figures.endings.update([reason] if episode.purpose != "practice" else [])
                del self._open[event.stream]
            case EpisodeFailed():
                figures.failed += 1
                del self._open[event.stream]
            case _:
                self._teacher(event, figures)

    def _gap(self, fact: GapMeasured) -> None:
        goalpost = self.goalposts.setdefault(fact.question, GoalpostFigures("unknown"))
        goalpost.measured += 1
        goalpost.first_gap = fact.gap if goalpost.first_gap is None else goalpost.first_gap
        goalpost.last_gap = fact.gap
        goalpost.best_share = max(goalpost.best_share, fact.best_share)

    def _teacher(self, event: Event, figures: IterationFigures) -> None:
        match event.fact:
            case QuestionProposed(seat=seat, parent=parent, generation=generation):
                figures.lengths["teacher"].add(generation.length, generation.count)
                figures.seats.setdefault(seat, SeatFigures()).proposed += 1
                figures.seats[seat].parents.add(parent)
            case QuestionRejected(seat=seat, reason=reason):
                figures.seats[seat].rejected[reason] += 1
            case QuestionValidated(seat=seat, similarity=similarity, aligned=aligned):
                figures.seats[seat].similarity.add(similarity)
                if aligned is not None:
                    figures.seats[seat].aligned.add(float(aligned))
            case LabelVoted() as fact:
                figures.seats[fact.seat].votes.apply(fact)
            case PassRateMeasured(seat=seat, successes=successes, attempts=attempts):
                figures.seats[seat].pass_rate.add(successes / attempts)
            case RewardGiven(role="teacher", task=task, rewards=rewards):
                figures.seats[_SEATS.get(task, "open")].reward.add(sum(rewards), len(rewards))
            case QuestionAccepted(seat=seat):
                figures.seats[seat].accepted += 1
                self.lemmas += seat == "easy"
                self.lifts += seat == "hard"
                self.open_questions += seat == "open"


def staleness(summary: RunSummary, update: PolicyUpdated) -> int | None:
    """Updates of the policy between the weights that sampled and those that learned; None if the log does not tell."""
    iteration = summary.iterations.get(update.iteration)
    sampled = None if iteration is None else iteration.policies.get("teacher" if update.policy == "teacher" else "student")
    ages: dict[Digest, int] = {}
    for past in summary.updates:
        if past.policy == update.policy:
            ages.setdefault(past.parent, len(ages))
            if past is update:
                break
            ages.setdefault(past.digest, len(ages))
    return None if sampled not in ages else ages[update.parent] - ages[sampled]
