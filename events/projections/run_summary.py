"""Projections of a whole run, folded from its events in one pass: the summary, accepted questions, counts of completions.

Guarantees: a projection depends on the events alone, so that it is the same live, after a resume and years later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Protocol, TypeVar

from events.facts.certainty_facts import CalibrationFinished, TextGiven
from events.facts.drawn_facts import DocumentDrawn
from events.facts.label_facts import LabelVoted
from events.facts.log import Event
from events.facts.trial_facts import StudentPromoted, TrialExamined
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
from events.facts.values import BlobHash, Digest, Level, QuestionId, Role, Seat, count_passed
from events.projections.figures import GoalpostFigures, IterationFigures, LevelFigures, SeatFigures
from events.projections.players import Players

OBSERVED_SECONDS: Final = "seconds"
"""Observation of the end of an iteration: the coordinator's seconds by phase since the last one."""


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
    question: QuestionId
    """Of a guided episode, the goalpost."""
    level: Level | None = None
    """Where it is about a document."""
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
    calibrations: list[CalibrationFinished] = field(default_factory=list)
    trials: list[TrialExamined] = field(default_factory=list)
    promotions: list[StudentPromoted] = field(default_factory=list)
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
                figures, goalposts = self.iterations[number], self.goalposts.values()
                figures.ended, figures.seconds = event.time, dict(event.observed.get(OBSERVED_SECONDS, {}))
                figures.with_lemma = sum(goalpost.lemmas > 0 for goalpost in goalposts)
                figures.with_lift = sum(goalpost.lifts > 0 for goalpost in goalposts)
            case PolicyUpdated() as fact:
                self.updates.append(fact)
                self.speeds.append(event.observed.get("tokens_per_second"))
            case PolicyServed(role=role, policy=policy) as fact:
                self.policies[role], self.served[role] = policy, fact
            case EvaluationFinished() | CalibrationFinished() | TrialExamined() | StudentPromoted():
                self._examined(event.fact)
            case EpisodeStarted() as fact:
                self._open[event.stream] = _OpenEpisode(fact.iteration, fact.purpose, fact.question)
            case AttemptsMade(generation=generation) | QuestionProposed(generation=generation):
                self.tokens += generation.length
        if event.stream in self._open:
            self._episode(event, self._open[event.stream])

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of finished iterations by phase; empty in logs that do not have them."""
        seconds: dict[str, float] = {}
        for figures in self.iterations.values():
            for phase, spent in figures.seconds.items():
                seconds[phase] = seconds.get(phase, 0.0) + spent
        return seconds

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
        _apply_at_level(event, episode, figures)
        match event.fact:
            case GapMeasured() as fact:
                figures.gap.add(fact.gap)
                figures.best_share.add(fact.best_share)
                self._gap(fact)
            case AttemptsMade(generation=generation, purpose=purpose):
                figures.lengths["student"].add(generation.length, generation.count)
                if purpose == "practice":
                    episode.waiting.add(event.version)
            case AttemptsVerified(of=of, verdicts=verdicts) if of in episode.waiting:
                episode.waiting.discard(of)
                figures.practice.add(count_passed(verdicts), len(verdicts))
            case RewardGiven(role="student", rewards=rewards, phase=phase):
                figures.student_reward.add(sum(rewards), len(rewards))
                if phase == "solve":
                    figures.solve.add(sum(reward > 0 for reward in rewards), len(rewards))
            case TextGiven(certain=certain):
                figures.texts += 1
                if certain is not None:
                    figures.certain.add(certain)
            case EpisodeFinished(reason=reason):
                figures.finished += 1
                figures.endings.update([reason] if episode.purpose != "practice" else [])
                del self._open[event.stream]
            case EpisodeFailed():
                figures.failed += 1
                del self._open[event.stream]
            case _:
                self._teacher(event, figures, self.goalposts.get(episode.question))

    def _examined(self, fact: EvaluationFinished | CalibrationFinished | TrialExamined | StudentPromoted) -> None:
        match fact:
            case EvaluationFinished():
                self.evaluations.append(fact)
            case CalibrationFinished():
                self.calibrations.append(fact)
            case TrialExamined():
                self.trials.append(fact)
            case StudentPromoted():
                self.promotions.append(fact)

    @property
    def promoted(self) -> set[tuple[int, int, int]]:
        """Iteration, set and student of each trial that was promoted."""
        return {(fact.iteration, fact.set, fact.student) for fact in self.promotions}

    def _gap(self, fact: GapMeasured) -> None:
        goalpost = self.goalposts.setdefault(fact.question, GoalpostFigures("unknown"))
        goalpost.measured += 1
        goalpost.first_gap = fact.gap if goalpost.first_gap is None else goalpost.first_gap
        goalpost.last_gap = fact.gap
        goalpost.best_share = max(goalpost.best_share, fact.best_share)

    def _teacher(self, event: Event, figures: IterationFigures, goalpost: GoalpostFigures | None) -> None:
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
            case LabelVoted(informed=None) as fact:
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
                if goalpost is not None:
                    goalpost.lemmas += seat == "easy"
                    goalpost.lifts += seat == "hard"


def _apply_at_level(event: Event, episode: _OpenEpisode, figures: IterationFigures) -> None:
    """Apply an event of an episode to the figures of its level, if it is about a document."""
    if isinstance(event.fact, DocumentDrawn):
        episode.level = event.fact.level
        figures.levels.setdefault(event.fact.level, LevelFigures()).episodes += 1
    if episode.level is None:
        return
    own = figures.levels[episode.level]
    match event.fact:
        case LabelVoted(informed=informed) as fact:
            (own.votes if informed else own.alone).apply(fact)
        case PassRateMeasured(successes=successes, attempts=attempts):
            own.matching.add(successes / attempts)
        case AttemptsVerified(of=of, verdicts=verdicts) if of in episode.waiting:
            own.matching.add(count_passed(verdicts) / len(verdicts))
        case RewardGiven(role="teacher", rewards=rewards):
            own.reward.add(sum(rewards), len(rewards))
        case QuestionAccepted():
            own.accepted += 1


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
