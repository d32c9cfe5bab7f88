"""A goalpost: why it was or was not solved so far, how its gap moved, and the curriculum that was built towards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from events.export.charts import Figure, Series
from events.facts.digests import SHORT
from events.facts.log import ReadableLog
from events.facts.questions import readable_question
from events.facts.values import Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, GapEntry, GoalpostEntry
from events.projections.best_answer import best_answer
from events.projections.goalpost_history import EpisodeDetail, EpisodeHistory, episode_detail, episode_histories
from events.reports.explanation import explain_goalpost
from events.text.diff import DiffLine, diff_lines
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 40
"""Episodes in the tree."""
DETAILED: Final = 4
"""Episodes that are shown in detail."""
COUNTED: Final = 500
"""Latest episodes whose proposals count for the explanation."""
_COMPARED: Final = 5_000
"""Characters of a text that are compared."""


@dataclass(frozen=True)
class Variant:
    """An accepted proposal beside the question that it varies."""

    appearance: AppearanceEntry
    statement: str
    program: str
    statement_changes: list[DiffLine]
    program_changes: list[DiffLine]
    answers: list[AttemptsEntry]
    """The student's answers to it in this episode."""


@dataclass(frozen=True)
class EpisodeSection:
    """An episode in detail."""

    episode: EpisodeDetail
    lemma: Variant | None
    lift: Variant | None
    others: list[AppearanceEntry]
    """Proposals that were rejected, or are not judged yet."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, index, before = request.run, request.run.index, request.integer("before")
    goalpost = _goalpost(index, request.params["id"])
    name, gaps, question = goalpost.question, index.gaps(goalpost.question), readable_question(run.log, goalpost.blob)
    episodes = episode_histories(index, name, gaps, before=before, limit=ROWS)
    latest, updates = episodes[-DETAILED:][::-1], run.summary().updates
    counted = (proposal for episode in index.episodes(name, limit=COUNTED) for proposal in index.proposals(episode.stream))
    model = {
        "goalpost": goalpost,
        "why": explain_goalpost(goalpost, gaps, counted),
        "best_answer": best_answer(run.log, index, name, gaps),
        "question": question,
        "gaps": gaps,
        "figure": _figure(gaps),
        "tree": _tree(episodes, gaps, before),
        "sections": [_section(run.log, question, episode_detail(run.log, index, episode, updates)) for episode in latest],
        "older": latest[-1].position if len(episodes) > DETAILED else None,
    }
    return Page("goalpost.html", f"Goalpost {name[:SHORT]}", model)


def _goalpost(index: Index, prefix: str) -> GoalpostEntry:
    """The goalpost whose id starts with a prefix."""
    names = {row.question for row in index.find(prefix) if row.origin == "goalpost" and row.question is not None}
    goalpost = index.goalpost(names.pop() if len(names) == 1 else QuestionId(prefix))
    if goalpost is None:
        where = "as far as the log is read; begin at the list of goalposts"
        raise NotFound(f"No goalpost of this run has the id {prefix!r}, {where}.")
    return goalpost


def _tree(episodes: Sequence[EpisodeHistory], gaps: Sequence[GapEntry], before: int | None) -> list[EpisodeHistory | GapEntry]:
    if not episodes and before is not None:
        return []
    start = episodes[0].position if len(episodes) == ROWS else 0
    evaluations = [gap for gap in gaps if gap.best_share is None and start <= gap.position < (before or gap.position + 1)]
    # A run may be evaluated far more often than it tries one goalpost.
    rows: list[EpisodeHistory | GapEntry] = [*episodes, *evaluations]
    return sorted(rows, key=lambda row: row.position)[-2 * ROWS :]


def _section(log: ReadableLog, goalpost: Question | None, episode: EpisodeDetail) -> EpisodeSection:
    lemma = _variant(log, goalpost, episode, episode.lemmas)
    parent = None if lemma is None else readable_question(log, lemma.appearance.blob)
    others = [proposal for proposal in episode.proposals if not proposal.accepted]
    return EpisodeSection(episode, lemma, _variant(log, parent, episode, episode.lifts), others)


def _variant(
    log: ReadableLog, parent: Question | None, episode: EpisodeDetail, proposals: Sequence[AppearanceEntry]
) -> Variant | None:
    accepted = next((proposal for proposal in proposals if proposal.accepted), None)
    question = None if accepted is None else readable_question(log, accepted.blob)
    if accepted is None or question is None:
        return None
    old = parent or question
    return Variant(
        accepted,
        question.statement,
        question.program or "",
        diff_lines(old.statement[:_COMPARED], question.statement[:_COMPARED]),
        diff_lines((old.program or "")[:_COMPARED], (question.program or "")[:_COMPARED]),
        episode.answers_to(accepted),
    )


def _figure(gaps: Sequence[GapEntry]) -> Figure:
    played = tuple((float(gap.iteration), gap.gap) for gap in gaps if gap.best_share is not None)
    evaluated = tuple((float(gap.iteration), gap.gap) for gap in gaps if gap.best_share is None)
    lines = [Series("episodes", played), Series("evaluations", evaluated)]
    return Figure("gap", "Gap of the goalpost", "iteration", "gap", tuple(line for line in lines if line.points), (0.0, 1.0))
