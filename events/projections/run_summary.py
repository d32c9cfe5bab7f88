"""Projections: what readers of a log want to know, folded from its events in one pass.

Law: a projection is a pure fold. `apply` takes events in order of position and looks at nothing else, so the same figures
come out live, after a resume and years later. It prints nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol, TypeVar

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


class Projection(Protocol):
    """A fold over events."""

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        ...


P = TypeVar("P", bound=Projection)


def fold(projection: P, events: Iterable[Event]) -> P:
    """The projection after all these events."""
    for event in events:
        projection.apply(event)
    return projection


@dataclass
class RunningMean:
    """A mean that grows."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float, count: int = 1) -> None:
        """Take `count` values with the sum `value` into account."""
        self.total += value
        self.count += count

    @property
    def value(self) -> float | None:
        """The mean, None of nothing."""
        return self.total / self.count if self.count else None


@dataclass
class AcceptedQuestions:
    """Accepted questions of each seat, in the order of their acceptance. New proposals must differ from them."""

    easy: list[BlobHash] = field(default_factory=list)
    hard: list[BlobHash] = field(default_factory=list)
    open: list[BlobHash] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        if isinstance(event.fact, QuestionAccepted):
            self.of(event.fact.seat).append(event.fact.blob)

    def of(self, seat: Seat) -> list[BlobHash]:
        """The seat's buffer."""
        return {"easy": self.easy, "hard": self.hard, "open": self.open}[seat]


@dataclass
class SeatFigures:
    """One teacher's seat in one iteration."""

    proposed: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason."""
    pass_rate: RunningMean = field(default_factory=RunningMean)
    """Over validated questions whose pass rate was measured."""
    aligned: RunningMean = field(default_factory=RunningMean)
    """Share of questions whose statement and program agree, where the world can say."""
    similarity: RunningMean = field(default_factory=RunningMean)
    """Mean over validated questions of the largest similarity to an accepted one; grows when the teacher narrows."""
    reward: RunningMean = field(default_factory=RunningMean)
    """Over the seat's completions."""
    parents: set[QuestionId] = field(default_factory=set)
    """What was varied."""

    @property
    def diversity(self) -> float | None:
        """1 - mean similarity: 1 when every question is new, 0 when all repeat."""
        return None if self.similarity.value is None else 1 - self.similarity.value

    def add(self, other: SeatFigures) -> None:
        """Take another iteration of the seat into account."""
        self.proposed += other.proposed
        self.accepted += other.accepted
        self.rejected.update(other.rejected)
        self.parents |= other.parents
        for mine, its in (
            (self.pass_rate, other.pass_rate),
            (self.aligned, other.aligned),
            (self.similarity, other.similarity),
            (self.reward, other.reward),
        ):
            mine.add(its.total, its.count)


@dataclass
class IterationFigures:
    """One iteration."""

    number: int
    began: datetime
    episodes: int
    """Announced, guided and practice together."""
    policies: Mapping[Role, Digest]
    """Weights that each role plays with."""
    position: int = 0
    """Of the event that began it."""
    ended: datetime | None = None
    finished: int = 0
    failed: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    """Why episodes with a teacher ended."""
    gap: RunningMean = field(default_factory=RunningMean)
    """Over the goalposts that were tried."""
    practice: RunningMean = field(default_factory=RunningMean)
    """Share of passed practice attempts."""
    student_reward: RunningMean = field(default_factory=RunningMean)
    """Over the student's rewarded completions."""
    solve: RunningMean = field(default_factory=RunningMean)
    """Share of the answers to accepted questions that were rewarded, which are those that passed."""
    lengths: dict[Role, RunningMean] = field(default_factory=lambda: {"teacher": RunningMean(), "student": RunningMean()})
    """Completion tokens sampled while playing, over completions."""
    seats: dict[Seat, SeatFigures] = field(default_factory=lambda: {"easy": SeatFigures(), "hard": SeatFigures()})
    """The open seat is there once it has proposed."""

    @property
    def tokens(self) -> int:
        """Completion tokens sampled while playing."""
        return int(sum(length.total for length in self.lengths.values()))


@dataclass
class GoalpostFigures:
    """One goalpost."""

    source: str
    measured: int = 0
    """How often its gap was measured."""
    first_gap: float | None = None
    last_gap: float | None = None
    best_share: float = 0.0
    """Largest share of tests that any attempt passed."""


@dataclass
class CompletionCount:
    """How many completions of the student were made in play, those of examinations left out: what a budget is counted in."""

    KINDS: ClassVar = frozenset({"attempts_made", "iteration_finished"})
    """Kinds of facts that count."""
    position: int = 0
    """Last position applied."""
    total: int = 0
    after: dict[int, int] = field(default_factory=lambda: {0: 0})
    """How many they were at the end of each iteration."""

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        self.position = event.position
        match event.fact:
            case AttemptsMade(purpose=purpose, generation=generation) if purpose != "evaluation":
                self.total += generation.count
            case IterationFinished(iteration=number):
                self.after[number] = self.total


_SEATS: dict[str, Seat] = {"easy": "easy", "hard": "hard"}
"""Seats whose name is that of their reward group; the open seat's groups are tasks."""


@dataclass
class _OpenEpisode:
    """An episode that has not ended."""

    iteration: int
    purpose: str
    waiting: set[int] = field(default_factory=set)
    """Versions of practice attempts without verdicts."""


@dataclass
class RunSummary:
    """The whole run, for the live display, the final table and the trace. It grows with iterations and goalposts only."""

    position: int = 0
    """Last position applied."""
    began: datetime | None = None
    latest: datetime | None = None
    """When the last event was appended."""
    started: RunStarted | None = None
    played: float = 0.0
    """Seconds between events, without the time between a stop and its resume, or after the end."""
    resumed: int = 0
    finished: bool = False
    iterations: dict[int, IterationFigures] = field(default_factory=dict)
    goalposts: dict[QuestionId, GoalpostFigures] = field(default_factory=dict)
    evaluations: list[EvaluationFinished] = field(default_factory=list)
    updates: list[PolicyUpdated] = field(default_factory=list)
    speeds: list[float | None] = field(default_factory=list)
    """Tokens/s of each update, as clocks said."""
    policies: dict[Role, Digest] = field(default_factory=dict)
    """Weights in use."""
    served: dict[Role, PolicyServed] = field(default_factory=dict)
    """The last proof of them."""
    lemmas: int = 0
    lifts: int = 0
    open_questions: int = 0
    tokens: int = 0
    """Completion tokens of the whole run, evaluations included."""
    samples: CompletionCount = field(default_factory=CompletionCount)
    """Completions of the student."""
    _open: dict[str, _OpenEpisode] = field(default_factory=dict, repr=False)
    """Episodes that have not ended, by stream."""

    def apply(self, event: Event) -> None:
        """See `Projection.apply`."""
        self._tick(event)
        self.samples.apply(event)
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

    def _tick(self, event: Event) -> None:
        # What is examined after the end is no play.
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
    """How many updates of the policy lie between the weights that sampled and those that learned; None if nobody can say."""
    played = summary.iterations.get(update.iteration)
    sampled = None if played is None else played.policies.get("teacher" if update.policy == "teacher" else "student")
    lineage: dict[Digest, int] = {}
    for past in summary.updates:
        if past.policy == update.policy:
            lineage.setdefault(past.parent, len(lineage))
            if past is update:
                break
            lineage.setdefault(past.digest, len(lineage))
    return None if sampled not in lineage else lineage[update.parent] - lineage[sampled]
