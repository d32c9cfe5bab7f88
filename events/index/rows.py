"""What an index answers with: short rows that say what is where.

Law: rows are frozen and plain, so that pages, commands and JSON take them as they are. Texts in them (titles, details) come
from models and from the outside; whoever shows them makes them safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from events.facts.types import Purpose, Reason
from events.facts.values import Axis, BlobHash, Digest, Outcome, QuestionId, Seat, Task

Origin = Literal["goalpost", "lemma", "lift", "open", "practice"]
"""What a question is, or was to become."""


@dataclass(frozen=True)
class AppearanceEntry:
    """An appearance of a question: a goalpost, a proposal of the teacher (well-formed or not), or a question for practice."""

    stream: str
    version: int
    """With the stream, the name of the event that it appeared with."""
    position: int
    origin: Origin
    question: QuestionId | None
    """None if the proposal was no question."""
    blob: BlobHash | None
    """The question itself."""
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
    """None before that is known, and for what nobody proposed."""
    reason: Reason | None
    """Why it was rejected."""
    detail: str
    """The same in words."""
    similarity: float | None
    aligned: bool | None
    successes: int | None
    attempts: int | None
    """Attempts that measured the pass rate, and how many passed."""
    reward: float | None
    """The teacher's."""
    agreeing: int = 0
    """Failed attempts with the same outputs; see `PassRateMeasured`."""


@dataclass(frozen=True)
class AttemptsEntry:
    """The student's answers to one prompt."""

    stream: str
    version: int
    position: int
    iteration: int | None
    """Iteration that they were played in; in an examination, iterations learned from before."""
    purpose: Purpose
    question: QuestionId
    task: Task
    pair: int | None
    policy: Digest
    count: int
    tokens: int
    outcomes: dict[Outcome, int]
    """How many ended how; empty without verdicts."""
    reward: float | None
    """Mean reward; None where nothing is learned from them."""
    rewarded_at: int | None
    """Position of the reward: the update with `after` < it <= `until` learned from them."""


@dataclass(frozen=True)
class GapEntry:
    """A measure of the gap to a goalpost, by an episode or by an examination."""

    position: int
    stream: str
    iteration: int
    """Iteration of the episode; for an examination, iterations learned from before."""
    policy: Digest | None
    successes: int
    attempts: int
    best_share: float | None
    """None in an examination."""

    @property
    def gap(self) -> float:
        """1 - successes / attempts."""
        return 1 - self.successes / self.attempts


@dataclass(frozen=True)
class GoalpostEntry:
    """A goalpost in a list."""

    question: QuestionId
    blob: BlobHash
    title: str
    source: str
    episodes: int
    lemmas: int
    """Accepted."""
    lifts: int
    """Accepted."""
    gaps: tuple[float, ...]
    """Every measure, in order; thinned out to at most 60, the first and the last among them."""
    first_gap: float | None
    last_gap: float | None
    best_gap: float | None
    """The smallest."""
    solved_after: int | None
    """Iteration of the first measure with a success; None without one."""


@dataclass(frozen=True)
class EpisodeEntry:
    """One walk through the graph."""

    stream: str
    position: int
    iteration: int
    purpose: Literal["guided", "unguided", "practice"]
    question: QuestionId
    """The goalpost, the first reference, or the practice question."""
    axis: Axis
    ending: str | None
    """Why it ended; None while it goes on."""


@dataclass(frozen=True)
class SignEntry:
    """Something suspicious, with the place of its evidence."""

    position: int
    """Of the event that holds the evidence."""
    rule: str
    """A name of `events.pure.reward_hacking.RULES`."""
    evidence: str
    """One sentence; may quote a model."""
    iteration: int | None = None
    question: QuestionId | None = None
    other: QuestionId | None = None
    """Another question that it is about, e.g. the one that this one repeats."""
    stream: str | None = None
    version: int | None = None
    index: int | None = None
    """The attempt among the completions of the event."""


@dataclass(frozen=True)
class SearchHit:
    """Something that a search found."""

    kind: Literal["question", "answers"]
    position: int
    appearance: AppearanceEntry | None = None
    """Of a question."""
    answers: AttemptsEntry | None = None
    excerpt: str = ""
    """Where the text was found, cut; empty where none was asked for."""
