"""Entries of an index.

Guarantees: entries are frozen plain data, for pages, commands and JSON. Titles and details may be hostile text; whoever
shows them makes them safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from events.facts.types import Purpose, Reason
from events.facts.values import Axis, BlobHash, Digest, EpisodePurpose, Level, Outcome, QuestionId, Seat, Task

Origin = Literal["goalpost", "lemma", "lift", "open", "practice", "document"]
"""The origin of a question: for proposals, what it was to become. `document`: it is no question, but what some are about."""


SIGN_KINDS: Final = ("goalpost_added", "question_validated", "attempts_verified")
"""Kinds of the facts in which signs of reward hacking are searched."""


@dataclass(frozen=True)
class AppearanceEntry:
    """An appearance of a question: a goalpost, a proposal of the teacher (well-formed or not), or a question for practice."""

    stream: str
    version: int
    """Stream and version name the event of the appearance."""
    position: int
    origin: Origin
    question: QuestionId | None
    """None if the proposal was no question."""
    blob: BlobHash | None
    title: str
    """The statement on one line, cut."""
    iteration: int | None
    """None for goalposts."""
    goalpost: QuestionId | None
    """The goalpost of its episode."""
    parent: QuestionId | None
    """The goalpost of a lemma, the lemma of a lift."""
    source: str | None
    """Question set of a goalpost."""
    seat: Seat | None
    attempt: int | None
    """Counts the seat's proposals in the episode, from 1."""
    axis: Axis | None
    accepted: bool | None
    """None while that is open, and for questions that nobody proposed."""
    reason: Reason | None
    """Why it was rejected; `detail` says it in words."""
    detail: str
    similarity: float | None
    aligned: bool | None
    successes: int | None
    attempts: int | None
    """Attempts that measured the pass rate, and how many passed."""
    reward: float | None
    agreeing: int = 0
    """Failed attempts with the same outputs; see `PassRateMeasured`."""
    vote: str | None = None
    """The vote on its outputs in words; None where there was none."""
    given: str | None = None
    """That a text which answers it was given to learn, in words; None where none was."""
    document: QuestionId | None = None
    """The document that it is about."""
    level: Level | None = None
    """How difficult it was meant to be."""


@dataclass(frozen=True)
class AttemptsEntry:
    """The student's attempts from one prompt."""

    stream: str
    version: int
    position: int
    iteration: int | None
    """Iteration that they were made in; in an evaluation, iterations learned from before."""
    purpose: Purpose
    question: QuestionId
    task: Task
    pair: int | None
    policy: Digest
    count: int
    tokens: int
    outcomes: dict[Outcome, int]
    """Attempts by outcome; empty without verdicts."""
    reward: float | None
    """Mean reward; None if nothing is learned from them."""
    rewarded_at: int | None
    """Position of the reward: the update with `after` < it <= `until` learned from them."""


@dataclass(frozen=True)
class GapEntry:
    """A measured gap of a goalpost, in an episode or in an evaluation."""

    position: int
    stream: str
    iteration: int
    """Iteration of the episode; in an evaluation, iterations learned from before."""
    policy: Digest | None
    successes: int
    attempts: int
    best_share: float | None
    """None in an evaluation."""

    @property
    def gap(self) -> float:
        """1 - successes / attempts."""
        return 1 - self.successes / self.attempts


class GoalpostMeasure(NamedTuple):
    """What attempts at a goalpost came to, in an episode or an evaluation."""

    iteration: int
    gap: float
    best_share: float | None
    """Largest share of tests that one of them passed; None of an evaluation without success, which does not count tests."""


@dataclass(frozen=True)
class GoalpostEntry:
    """A goalpost and its figures."""

    question: QuestionId
    blob: BlobHash
    title: str
    source: str
    episodes: int
    lemmas: int
    """Accepted lemmas."""
    lifts: int
    """Accepted lifts."""
    history: tuple[GoalpostMeasure, ...]
    """What was measured at it, in order; thinned out to at most 60, with the first and the last."""
    first_gap: float | None
    last_gap: float | None
    best_gap: float | None
    """The smallest gap."""
    best_share: float | None
    """Largest share of tests that an attempt passed, as far as episodes and passed attempts of evaluations tell."""
    solved_after: int | None
    """Iteration of the first measured gap with a success; None without one."""


@dataclass(frozen=True)
class EpisodeEntry:
    """An episode."""

    stream: str
    position: int
    iteration: int
    purpose: EpisodePurpose
    question: QuestionId
    """The goalpost, the first reference, or the practice question."""
    axis: Axis
    ending: str | None
    """Why it ended; None while it goes on."""


@dataclass(frozen=True)
class SignEntry:
    """A sign of reward hacking, with the event that holds its evidence."""

    position: int
    rule: str
    """A key of `events.pure.reward_hacking.RULES`."""
    evidence: str
    """One sentence; may quote a model."""
    iteration: int | None = None
    question: QuestionId | None = None
    other: QuestionId | None = None
    """Another question that is involved, e.g. the one that is repeated."""
    stream: str | None = None
    version: int | None = None
    index: int | None = None
    """Index of the attempt among the event's completions."""


@dataclass(frozen=True)
class SearchHit:
    """A result of a search."""

    kind: Literal["question", "answers"]
    position: int
    appearance: AppearanceEntry | None = None
    """Set for a question."""
    answers: AttemptsEntry | None = None
    excerpt: str = ""
    """Text around the match; empty where no text was searched."""
