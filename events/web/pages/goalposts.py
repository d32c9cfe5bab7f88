"""The goalposts of a run as a table, with what attempts at each came to over the run."""

from __future__ import annotations

from typing import Final

from events.index.reader import Index
from events.index.rows import GoalpostEntry
from events.web.view.page import Page, PageRequest

ROWS: Final = 100
"""Goalposts on a page."""
ALL: Final = 1_000_000
"""More goalposts than a run has."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    query, run = request.query, request.run
    order, descending = query.get("order") or "last_gap", query.get("descending") == "yes"
    number = request.integer("page", 1) or 1
    text, source, solved = query.get("text", "").strip(), query.get("source", ""), query.get("solved", "")
    summary = run.summary()
    rows, count = _filtered(run.index, text, source, solved, order, descending, (number - 1) * ROWS)
    model = {
        "goalposts": rows,
        "count": count,
        "order": order,
        "descending": descending,
        "text": text,
        "source": source,
        "solved": solved,
        "sources": sorted({figures.source for figures in summary.goalposts.values()}),
        "last": max([*summary.iterations, *(evaluation.iteration for evaluation in summary.evaluations)], default=0),
        "number": number,
        "pages": max(1, -(-count // ROWS)),
    }
    return Page("goalposts.html", "Goalposts", model)


def _filtered(
    index: Index, text: str, source: str, solved: str, order: str, descending: bool, offset: int
) -> tuple[list[GoalpostEntry], int]:
    if not source and solved not in ("yes", "no"):
        return index.goalposts(where=text, order=order, descending=descending, limit=ROWS, offset=offset)
    rows, _ = index.goalposts(where=text, order=order, descending=descending, limit=ALL)
    kept = [row for row in rows if source in ("", row.source) and solved in ("", "no" if row.solved_after is None else "yes")]
    return kept[offset : offset + ROWS], len(kept)
