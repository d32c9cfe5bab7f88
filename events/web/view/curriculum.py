"""The curriculum of a goalpost as pages show it: its episodes with their proposals, and each proposal beside what it varies.

Law: where things are comes from the index, what they say from the log; nothing is computed that is not recorded. A blob that
cannot be read leaves its text out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.errors import LogCorrupt
from events.facts.log import Readable
from events.facts.types import EpisodeFailed, PolicyUpdated
from events.facts.values import Axis, BlobHash, Digest, Question, QuestionId
from events.index.reader import Index
from events.index.rows import Answers, Appearance, Episode, Gap
from events.text.diff import Line, differences

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
    lemmas: tuple[Appearance, ...] = ()
    """Every proposal of one, in order."""
    lifts: tuple[Appearance, ...] = ()


@dataclass(frozen=True)
class Variant:
    """An accepted proposal beside the question that it varies."""

    appearance: Appearance
    statement: str
    program: str
    statement_changes: list[Line]
    program_changes: list[Line]
    answers: list[Answers]
    """What the student answered to it in this episode."""


@dataclass(frozen=True)
class Told:
    """An episode with all that belongs to it."""

    walk: Walk
    gap_after: float | None
    """The next gap that was measured, by an episode or an examination."""
    best_share: float | None
    """Largest share of tests that one answer to the goalpost passed."""
    answers: list[Answers]
    """Answers to the goalpost itself."""
    lemma: Variant | None
    lift: Variant | None
    others: list[Appearance]
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


def _walk(episode: Episode, gap: Gap | None, proposals: Sequence[Appearance]) -> Walk:
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
    index: Index, log: Readable, goalpost: Question | None, walk: Walk, gaps: Sequence[Gap], updates: Sequence[PolicyUpdated]
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


def _failure(log: Readable, walk: Walk) -> str | None:
    events = log.read(walk.stream, kinds=("episode_failed",)) if walk.ending == "failed" else iter(())
    failed = [event.fact for event in events if isinstance(event.fact, EpisodeFailed)]
    return f"{failed[0].error}: {failed[0].message}" if failed else None


def question(log: Readable, blob: BlobHash | None) -> Question | None:
    """The question in a blob; None where there is none that can be read."""
    if blob is None:
        return None
    try:
        return Question.model_validate_json(log.get(blob))
    except (LogCorrupt, ValueError):
        return None


def _variant(
    log: Readable, parent: Question | None, proposals: Sequence[Appearance], answers: Sequence[Answers]
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
        differences(old.statement[:_LONGEST], asked.statement[:_LONGEST]),
        differences((old.program or "")[:_LONGEST], (asked.program or "")[:_LONGEST]),
        [made for made in answers if made.question == appearance.question],
    )
