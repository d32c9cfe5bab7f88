"""The list of runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.facts.errors import GaspError
from events.projections.run_summary import RunSummary
from events.web.view.page import Page, PageRequest
from events.web.view.run_handle import RunHandle

PAGE = 50
"""Runs on a page."""


@dataclass(frozen=True)
class RunRow:
    """A run in the list."""

    name: str
    slug: str
    state: str = "unreadable"
    problem: str = ""
    position: int = 0
    head: int = 0
    """Last position of the log; `position` is how far it has been read."""
    recipe: str | None = None
    seed: int | None = None
    began: datetime | None = None
    latest: datetime | None = None
    iterations: int = 0
    planned: int | None = None
    gap: float | None = None
    """Mean gap of the goalposts that the latest iteration tried."""
    test: dict[int, float] | None = None
    """pass@k of the last evaluation on test questions."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    runs, first = request.viewer.runs(), request.integer("first", 0) or 0
    lines = [_line(run) for run in runs[first : first + PAGE]]
    return Page("runs.html", "Runs", {"runs": lines, "total": len(runs), "first": first, "page": PAGE})


def _line(run: RunHandle) -> RunRow:
    try:
        summary = run.summary_so_far()
        config: dict[str, Any] = summary.started.config if summary.started else {}
        return RunRow(
            run.name,
            run.slug,
            run.state,
            str(run.problem or ""),
            summary.position,
            run.head,
            config.get("recipe"),
            config.get("seed"),
            summary.began,
            summary.latest,
            len(summary.iterations),
            planned(summary),
            latest_gap(summary),
            next((dict(fact.pass_at) for fact in reversed(summary.evaluations) if fact.name.startswith("test")), None),
        )
    except GaspError as error:
        return RunRow(run.name, run.slug, problem=str(error))


def planned(summary: RunSummary) -> int | None:
    """Iterations in the settings; None where they have none."""
    play = summary.started.config.get("play") if summary.started else None
    iterations = play.get("iterations") if isinstance(play, dict) else None
    return iterations if isinstance(iterations, int) else None


def latest_gap(summary: RunSummary) -> float | None:
    """Mean gap of the latest iteration that measured one."""
    return next((figures.gap.value for figures in reversed(summary.iterations.values()) if figures.gap.count), None)
