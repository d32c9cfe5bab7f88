"""A goalpost: why it was or was not solved so far, how the gap moved, and the curriculum that was built towards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from events.export.charts import Figure, Series
from events.facts.digests import SHORT
from events.facts.values import Question, QuestionId
from events.index.reader import Index
from events.index.rows import GapEntry, GoalpostEntry
from events.projections.best_answer import BestAnswer, best_answer
from events.reports.explanation import why
from events.web.view.curriculum import Told, Walk, question, tell, walks
from events.web.view.not_there import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 40
"""Episodes in the tree."""
TOLD: Final = 4
"""Episodes that are told at length."""
COUNTED: Final = 500
"""Episodes whose proposals count for the sentence, the latest."""


@dataclass(frozen=True)
class GoalpostPage:
    """A goalpost and what happened to it."""

    goalpost: GoalpostEntry
    why: str
    """Why it was or was not solved so far, in a sentence."""
    nearest: BestAnswer | None
    """The answer to look at first; None where no answer passed a test."""
    question: Question | None
    """None where it cannot be read."""
    gaps: list[GapEntry]
    """Every measure, in order."""
    figure: Figure
    """The same, drawn."""
    walks: list[Walk]
    """The latest episodes and the examinations among them, the oldest first."""
    episodes: list[Told]
    """The latest of them at length, the latest first."""
    older: int | None
    """What to ask for as `before` to see older episodes; None where there are none."""


def page(asked: PageRequest) -> Page:
    """See the module."""
    run, index, before = asked.run, asked.run.index, asked.whole("before")
    goalpost = _goalpost(index, asked.path["id"])
    gaps = index.gaps(goalpost.question)
    rows = walks(index, goalpost.question, before=before, limit=ROWS)
    whole = question(run.log, goalpost.blob)
    updates = run.summary().updates
    latest = [row for row in reversed(rows) if row.axis is not None]
    model = GoalpostPage(
        goalpost=goalpost,
        why=_why(index, goalpost, gaps),
        nearest=best_answer(run.log, index, goalpost.question, gaps),
        question=whole,
        gaps=gaps,
        figure=_figure(gaps),
        walks=rows,
        episodes=[tell(index, run.log, whole, row, gaps, updates) for row in latest[:TOLD]],
        older=latest[TOLD - 1].position if len(latest) > TOLD else None,
    )
    return Page("goalpost.html", f"Goalpost {goalpost.question[:SHORT]}", model)


def _goalpost(index: Index, prefix: str) -> GoalpostEntry:
    """The goalpost whose id begins so.

    Raises:
        NotThere: none or several do.
    """
    found = {row.question for row in index.find(prefix) if row.origin == "goalpost" and row.question is not None}
    goalpost = index.goalpost(found.pop() if len(found) == 1 else QuestionId(prefix))
    if goalpost is None:
        raise NotFound(
            f"no goalpost of this run has the id {prefix!r}, as far as the log is read; begin at the list of goalposts"
        )
    return goalpost


def _why(index: Index, goalpost: GoalpostEntry, gaps: Sequence[GapEntry]) -> str:
    episodes = index.episodes(goalpost.question, limit=COUNTED)
    return why(goalpost, gaps, (proposal for episode in episodes for proposal in index.proposals(episode.stream)))


def _figure(gaps: Sequence[GapEntry]) -> Figure:
    played = tuple((float(gap.iteration), gap.gap) for gap in gaps if gap.best_share is not None)
    examined = tuple((float(gap.iteration), gap.gap) for gap in gaps if gap.best_share is None)
    lines = [Series("episodes", played), Series("examinations", examined)]
    return Figure("gap", "Gap of the goalpost", "iteration", "gap", tuple(line for line in lines if line.points), (0.0, 1.0))
