"""A question: what it asks, where it appeared and what became of it there, and how it was answered."""

from __future__ import annotations

from collections import Counter
from typing import Final

from events.facts.digests import SHORT
from events.facts.log import ReadableLog
from events.facts.questions import readable_question
from events.facts.types import AttemptsMade
from events.facts.values import Outcome, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry
from events.reports.explanation import statement_doubt
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 50
"""Appearances, and answers, on a page."""
LOOKED: Final = 20
"""Appearances whose episodes are searched for variants."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, index = request.run, request.run.index
    name, before = _full_id(index, request.params["id"]), request.integer("before")
    appearances = index.appearances(name, limit=ROWS)
    answers = index.answers(question=name, before=before, limit=ROWS)
    if not appearances and not answers and before is None:
        raise NotFound(f"No question of this run has the id {name!r}, as far as the log is read; search for its words instead.")
    first = next((row for row in appearances if row.blob is not None), None)
    question = None if first is None else readable_question(run.log, first.blob)
    parents = dict.fromkeys(row.parent for row in appearances if row.parent is not None)
    purposes: dict[str, Counter[Outcome]] = {}
    for entry in answers:
        purposes.setdefault(entry.purpose, Counter()).update(entry.outcomes)
    model = {
        "id": name,
        "question": question,
        "prompt": _prompt(run.log, answers[0]) if question is None and answers else None,
        "title": "" if first is None else first.title,
        "appearances": appearances,
        "parents": [row for parent in parents for row in index.appearances(parent, limit=1)],
        "children": _children(index, name, appearances),
        "purposes": {purpose: dict(counts.most_common()) for purpose, counts in purposes.items()},
        "answers": answers,
        "older": answers[-1].position if len(answers) == ROWS else None,
        "signs": index.signs(question=name, limit=ROWS),
        "given": [row for row in appearances if row.given],
        "about": [row for row in appearances if row.document],
        "votes": [row.vote for row in appearances if row.vote],
        "doubts": [why for row in appearances if (why := statement_doubt(row.attempts, row.agreeing))],
    }
    return Page("question.html", f"Question {name[:SHORT]}", model)


def _full_id(index: Index, prefix: str) -> QuestionId:
    """The only id that starts with a prefix; the prefix itself where there are none or several."""
    names = {row.question for row in index.find(prefix) if row.question is not None}
    return names.pop() if len(names) == 1 else QuestionId(prefix)


def _children(index: Index, name: QuestionId, appearances: list[AppearanceEntry]) -> list[AppearanceEntry]:
    streams = dict.fromkeys(row.stream for row in appearances[:LOOKED] if row.origin != "goalpost")
    return [row for stream in streams for row in index.proposals(stream) if row.parent == name]


def _prompt(log: ReadableLog, answers: AttemptsEntry) -> str | None:
    """The prompt that was answered."""
    event = log.event(answers.stream, answers.version)
    if event is None or not isinstance(event.fact, AttemptsMade):
        return None
    return log.get(event.fact.generation.prompt).decode("utf-8", "surrogatepass")
