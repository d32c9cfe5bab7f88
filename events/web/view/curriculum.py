"""The curriculum of a goalpost as pages show it: its episodes with their proposals, and each proposal beside what it varies.

Law: where things are comes from the index, what they say from the log; nothing is computed that is not recorded. A blob that
cannot be read leaves its text out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.errors import LogCorrupt
from events.facts.log import ReadableLog
from events.facts.types import EpisodeFailed, PolicyUpdated
from events.facts.values import Axis, BlobHash, Digest, Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, EpisodeEntry, GapEntry
from events.text.diff import DiffLine, diff_lines

_LONGEST = 5_000
"""Characters of a text that are compared."""
_ANSWERS = 200
"""Prompts that the student answers in an episode, at most."""


@dataclass(frozen=True)
class Walk:
    """An episode of the curriculum, or an examination, which has a gap only."""

    stream: str
    position: int
    iteration: int
    """Of an examination: iterations learned from before."""
    axis: Axis | None
    """None for an examination."""
    ending: str | None
    """None while it goes on, and for an examination."""
    gap: float | None
    lemmas: tuple[AppearanceEntry, ...] = ()
    """Every proposal of one, in order."""
    lifts: tuple[AppearanceEntry, ...] = ()


@dataclass(frozen=True)
class Variant:
    """An accepted proposal beside the question that it varies."""

    appearance: AppearanceEntry
    statement: str
    program: str
    statement_changes: list[DiffLine]
    program_changes: list[DiffLine]
    answers: list[AttemptsEntry]
    """What the student answered to it in this episode."""


@dataclass(frozen=True)
class Told:
    """An episode with all that belongs to it."""

    walk: Walk
    gap_after: float | None
    """The next gap that was measured, by an episode or an examination."""
    best_share: float | None
    """Largest share of tests that one answer to the goalpost passed."""
    answers: list[AttemptsEntry]
    """Answers to the goalpost itself."""
    lemma: Variant | None
    lift: Variant | None
    others: list[AppearanceEntry]
    """Proposals that were rejected, or are not judged yet."""
    learned: list[Digest]
    """Weights that learned from it."""
    failure: str | None
    """What it broke off on; None where it did not."""


def walks(index: Index, goalpost: QuestionId, *, before: int | None, limit: int) -> list[Walk]:
    """The latest episodes of the goalpost that began before a position, and the examinations among them, oldest first."""
    episodes = index.episodes(goalpost, before=before, limit=limit)
    if not episodes and before is not None:
        return []
    first = episodes[-1].position if len(episodes) == limit else 0
    gaps = index.gaps(goalpost)
    measured = {gap.stream: gap for gap in gaps}
    rows = [_walk(episode, measured.get(episode.stream), index.proposals(episode.stream)) for episode in episodes]
    rows += [
        Walk(gap.stream, gap.position, gap.iteration, None, None, gap.gap)
        for gap in gaps
        if gap.best_share is None and first <= gap.position and (before is None or gap.position < before)
    ]
    # A run may be examined far more often than it tries one goalpost.
    return sorted(rows, key=lambda row: row.position)[-2 * limit :]


def _walk(episode: EpisodeEntry, gap: GapEntry | None, proposals: Sequence[AppearanceEntry]) -> Walk:
    return Walk(
        episode.stream,
        episode.position,
        episode.iteration,
        episode.axis,
        episode.ending,
        None if gap is None else gap.gap,
        tuple(proposal for proposal in proposals if proposal.origin == "lemma"),
        tuple(proposal for proposal in proposals if proposal.origin == "lift"),
    )


def tell(
    index: Index,
    log: ReadableLog,
    goalpost: Question | None,
    walk: Walk,
    gaps: Sequence[GapEntry],
    updates: Sequence[PolicyUpdated],
) -> Told:
    """An episode with the differences between its questions, and what learned from it.

    Args:
        index: says where the episode's answers are.
        log: holds the questions.
        goalpost: what its lemmas vary.
        walk: the episode.
        gaps: every measure of the goalpost.
        updates: every update of the run.
    """
    measure = next((gap for gap in gaps if gap.stream == walk.stream), None)
    after = None if measure is None else next((gap.gap for gap in gaps if gap.position > measure.position), None)
    proposals = (*walk.lemmas, *walk.lifts)
    answers = index.answers(stream=walk.stream, limit=_ANSWERS)[::-1]
    lemma = _variant(log, goalpost, walk.lemmas, answers)
    lift = _variant(log, None if lemma is None else question(log, lemma.appearance.blob), walk.lifts, answers)
    asked = {variant.appearance.question for variant in (lemma, lift) if variant is not None}
    learned = [update.digest for update in updates if update.iteration == walk.iteration and walk.ending != "failed"]
    return Told(
        walk=walk,
        gap_after=after,
        best_share=None if measure is None else measure.best_share,
        answers=[made for made in answers if made.question not in asked and made.purpose == "gap"],
        lemma=lemma,
        lift=lift,
        others=[proposal for proposal in proposals if not proposal.accepted],
        learned=learned,
        failure=_failure(log, walk),
    )


def _failure(log: ReadableLog, walk: Walk) -> str | None:
    events = log.read(walk.stream, kinds=("episode_failed",)) if walk.ending == "failed" else iter(())
    failed = [event.fact for event in events if isinstance(event.fact, EpisodeFailed)]
    return f"{failed[0].error}: {failed[0].message}" if failed else None


def question(log: ReadableLog, blob: BlobHash | None) -> Question | None:
    """The question in a blob; None where there is none that can be read."""
    if blob is None:
        return None
    try:
        return Question.model_validate_json(log.get(blob))
    except (LogCorrupt, ValueError):
        return None


def _variant(
    log: ReadableLog, parent: Question | None, proposals: Sequence[AppearanceEntry], answers: Sequence[AttemptsEntry]
) -> Variant | None:
    appearance = next((proposal for proposal in proposals if proposal.accepted), None)
    asked = None if appearance is None else question(log, appearance.blob)
    if appearance is None or asked is None:
        return None
    old = parent or asked
    return Variant(
        appearance,
        asked.statement,
        asked.program or "",
        diff_lines(old.statement[:_LONGEST], asked.statement[:_LONGEST]),
        diff_lines((old.program or "")[:_LONGEST], (asked.program or "")[:_LONGEST]),
        [made for made in answers if made.question == appearance.question],
    )
