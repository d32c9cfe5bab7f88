"""Figures of a run's parts: of votes, a seat's proposals, an iteration and a goalpost.

They are counted by `events.projections.run_summary`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from events.facts.label_facts import LabelVoted
from events.facts.values import Digest, Level, QuestionId, Role, Seat


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
class LevelFigures:
    """Questions about documents at one level in one iteration: written ones, or ones of the pool that were played."""

    episodes: int = 0
    accepted: int = 0
    matching: RunningMean = field(default_factory=RunningMean)
    """Share of the answers without the document that match the label, on average over questions."""
    reward: RunningMean = field(default_factory=RunningMean)
    """The teacher's."""
    votes: VoteFigures = field(default_factory=VoteFigures)
    """Of answers that saw the document."""
    alone: VoteFigures = field(default_factory=VoteFigures)
    """Of answers that did not, which decide nothing."""

    def values(self) -> dict[str, float | None]:
        """The figures by name."""
        means = {"matching": self.matching.value, "reward": self.reward.value}
        means |= {name: self.votes.values()[name] for name in ("agreement", "labelled", "right")}
        return {"episodes": self.episodes, "accepted": self.accepted, **means, "right_alone": self.alone.right.value}


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
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by phase, from the end of the iteration before on; see `events.process.phase_clock`."""
    finished: int = 0
    failed: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    """Reasons for the end of episodes with a teacher."""
    gap: RunningMean = field(default_factory=RunningMean)
    """Of the goalposts that were tried."""
    best_share: RunningMean = field(default_factory=RunningMean)
    """Largest share of tests that an attempt at a goalpost passed, on average over those that were tried."""
    with_lemma: int = 0
    """Goalposts that had an accepted lemma by its end."""
    with_lift: int = 0
    """Goalposts that had an accepted lift by its end."""
    practice: RunningMean = field(default_factory=RunningMean)
    """Share of attempts at real data that passed."""
    student_reward: RunningMean = field(default_factory=RunningMean)
    solve: RunningMean = field(default_factory=RunningMean)
    """Share of answers to accepted questions that were rewarded, that is, passed."""
    texts: int = 0
    """Texts that were given to learn."""
    certain: RunningMean = field(default_factory=RunningMean)
    """Share of the given texts that say that their answer is certain, of those that say either."""
    lengths: dict[Role, RunningMean] = field(default_factory=lambda: {"teacher": RunningMean(), "student": RunningMean()})
    """Tokens a completion, those of evaluations left out."""
    seats: dict[Seat, SeatFigures] = field(default_factory=lambda: {"easy": SeatFigures(), "hard": SeatFigures()})
    """The open seat is in it once it has proposed."""
    levels: dict[Level, LevelFigures] = field(default_factory=dict)
    """Questions about documents, by level; empty where there are no documents."""

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
    lemmas: int = 0
    lifts: int = 0
    """Accepted lemmas and lifts of its episodes."""
