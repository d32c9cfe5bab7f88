"""Search in a run: words of statements, programs and completions, and recorded figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.errors import BadInput
from events.index.query import CHOICES, FIELDS, NUMBERS, PREFIXES, parse_query
from events.index.rows import SearchHit
from events.web.view.page import Page, PageRequest

ROWS: Final = 30
"""Hits on a page."""
PATIENCE_S: Final = 0.08
"""Seconds of a search; a page with fewer hits says how far it came."""
EXAMPLES: Final = (
    ("verdict:timeout", "answers that ran out of time"),
    ("kind:lemma accepted:yes passrate<0.5", "lemmas that the student solves less than half the time"),
    ("kind:lift -accepted:yes reason:too_hard", "lifts that were too hard"),
    ("purpose:gap passrate>0", "answers that solved a goalpost"),
    ("kind:answers reward<0 iteration>=10", "answers from iteration 10 on that were punished"),
    ('"for x in" -sorted axis:io', "a phrase without a word, on one axis"),
)
"""Queries and what they find."""
MEANINGS: Final = {
    "kind": "what it is",
    "verdict": "at least one such verdict among the answers",
    "axis": "what was varied",
    "seat": "the seat that proposed it",
    "task": "how the student was asked",
    "purpose": "what the answers were for",
    "reason": "why it was rejected",
    "accepted": "whether it was accepted",
    "aligned": "whether statement and program agree",
    "policy": "first digits of the weights' digest",
    "question": "first digits of the question's id",
    "goalpost": "first digits of the goalpost's id",
    "source": "question set of a goalpost",
    "passrate": "share that passed, 0 to 1",
    "reward": "mean reward",
    "similarity": "to an accepted question",
    "iteration": "iteration it belongs to",
    "tokens": "completion tokens of the answers",
}
"""Meaning of each field."""


@dataclass(frozen=True)
class SearchField:
    """A field of the query language."""

    name: str
    meaning: str
    values: str
    """Values that it takes, in words."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    query, error = request.query.get("q", "").strip(), ""
    hits: list[SearchHit] = []
    words: list[str] = []
    before = 1
    try:
        words = [term.value.rstrip("*") for term in parse_query(query) if term.field is None and not term.negated]
        if query:
            hits, before = request.run.index.search_for(PATIENCE_S, query, limit=ROWS, before=request.integer("before"))
    except BadInput as problem:
        error = str(problem)
    older = before if before > 1 else None
    model = {
        "query": query,
        "error": error,
        "hits": hits,
        "words": words,
        "older": older,
        "partly": older is not None and len(hits) < ROWS,
        "fields": [SearchField(name, MEANINGS[name], _values(name)) for name in FIELDS],
        "examples": [{"query": example, "finds": finds} for example, finds in EXAMPLES],
    }
    return Page("search.html", "Search", model)


def _values(name: str) -> str:
    if name in CHOICES:
        return " ".join(CHOICES[name])
    if name in NUMBERS:
        return "number"
    return "hex digits" if name in PREFIXES else "a name"
