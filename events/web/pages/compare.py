"""Runs side by side: settings that differ, headlines, and figures with a line a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from events.export.charts import compare_figures, run_figures
from events.facts.errors import BadInput
from events.projections.run_summary import RunSummary
from events.web.pages.run import headlines
from events.web.view.page import Page, PageRequest
from events.web.view.run_handle import RunHandle
from events.web.view.settings import flat_settings

MOST: Final = 6
"""Runs that a figure can show, at most."""
CHOICE: Final = 200
"""Runs that are listed to choose from."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    slugs = list(dict.fromkeys(slug for slug in request.query.getlist("run") if slug))
    if len(slugs) > MOST:
        raise BadInput(f"{len(slugs)} runs are too many for one page; choose up to {MOST}.")
    runs = [request.viewer.run(slug) for slug in slugs]
    summaries = [run.summary() for run in runs]
    model = {
        "runs": [{"name": run.name, "slug": run.slug, "state": run.state} for run in runs],
        "choice": [{"name": run.name, "slug": run.slug} for run in request.viewer.runs()[:CHOICE]],
        "most": MOST,
        "settings": _different([flat_settings(summary) for summary in summaries]),
        "numbers": _numbers(summaries),
        "figures": compare_figures(dict(zip(_names(runs), (run.derived(run_figures) for run in runs), strict=True))),
    }
    return Page("compare.html", "Compare runs", model)


def _names(runs: list[RunHandle]) -> list[str]:
    """Names of the runs, or their slugs where names are equal."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.slug for run in runs]


def _different(columns: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings that differ, by name; None where a run does not have the setting."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: [column.get(name) for column in columns] for name in sorted(names)}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _numbers(summaries: list[RunSummary]) -> list[dict[str, Any]]:
    """Headlines, each with a value for each run."""
    columns = [{head.name: head for head in headlines(summary)} for summary in summaries]
    forms = {name: head.form for column in columns for name, head in column.items()}
    values = {name: [column[name].value if name in column else None for column in columns] for name in forms}
    return [{"name": name, "form": form, "values": values[name]} for name, form in forms.items()]
