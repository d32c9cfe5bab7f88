"""A question: what it asks, where it appeared and what became of it there, and how it was answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from events.facts.digests import SHORT
from events.facts.log import ReadableLog
from events.facts.types import AttemptsMade
from events.facts.values import Outcome, Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, SignEntry
from events.projections.goalpost_history import statement_doubt
from events.web.view.curriculum import question
from events.web.view.not_there import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 50
"""Appearances, and answers, on a page."""
LOOKED: Final = 20
"""Appearances whose episodes are searched for variants."""


@dataclass(frozen=True)
class QuestionPage:
    """A question and what is known about it."""

    id: QuestionId
    question: Question | None
    """None where the log does not hold it, as of most examinations."""
    prompt: str | None
    """The prompt of the latest answers, where the log does not hold the question itself."""
    title: str
    appearances: list[AppearanceEntry]
    """The first time first."""
    parents: list[AppearanceEntry]
    """What it is a variant of, where that appeared first."""
    children: list[AppearanceEntry]
    """Variants of it that its own episodes proposed."""
    purposes: dict[str, dict[Outcome, int]]
    """How the answers on this page ended, by what they were made for."""
    answers: list[AttemptsEntry]
    """The latest first."""
    older: int | None
    """What to ask for as `before` to see older answers; None where there are none."""
    signs: list[SignEntry]
    """What is suspicious about it."""
    doubts: list[str]
    """Why its statement may not describe its program, by what attempts at it agreed on."""


def page(asked: PageRequest) -> Page:
    """See the module."""
    run, index = asked.run, asked.run.index
    name, before = _whole(index, asked.path["id"]), asked.whole("before")
    appearances = index.appearances(name, limit=ROWS)
    answers = index.answers(question=name, before=before, limit=ROWS)
    if not appearances and not answers and before is None:
        raise NotFound(f"no question of this run has the id {name!r}, as far as the log is read; search for its words instead")
    first = next((found for found in appearances if found.blob is not None), None)
    held = None if first is None else question(run.log, first.blob)
    parents = dict.fromkeys(found.parent for found in appearances if found.parent is not None)
    purposes: dict[str, Counter[Outcome]] = {}
    for made in answers:
        purposes.setdefault(made.purpose, Counter()).update(made.outcomes)
    model = QuestionPage(
        id=name,
        question=held,
        prompt=_prompt(run.log, answers[0]) if held is None and answers else None,
        title="" if first is None else first.title,
        appearances=appearances,
        parents=[row for parent in parents for row in index.appearances(parent, limit=1)],
        children=_children(index, name, appearances),
        purposes={purpose: dict(counts.most_common()) for purpose, counts in purposes.items()},
        answers=answers,
        older=answers[-1].position if len(answers) == ROWS else None,
        signs=index.signs(question=name, limit=ROWS),
        doubts=[why for row in appearances if (why := statement_doubt(row.attempts, row.agreeing))],
    )
    return Page("question.html", f"Question {name[:SHORT]}", model)


def _whole(index: Index, prefix: str) -> QuestionId:
    """The id that begins so, where only one does."""
    found = {row.question for row in index.find(prefix) if row.question is not None}
    return found.pop() if len(found) == 1 else QuestionId(prefix)


def _children(index: Index, name: QuestionId, appearances: list[AppearanceEntry]) -> list[AppearanceEntry]:
    streams = dict.fromkeys(found.stream for found in appearances[:LOOKED] if found.origin != "goalpost")
    return [row for stream in streams for row in index.proposals(stream) if row.parent == name]


def _prompt(log: ReadableLog, made: AttemptsEntry) -> str | None:
    """What the student was shown."""
    event = next(log.read(made.stream, after=made.position - 1, limit=1), None)
    if event is None or not isinstance(event.fact, AttemptsMade):
        return None
    return log.get(event.fact.generation.prompt).decode("utf-8", "surrogatepass")
