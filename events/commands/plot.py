"""`plot`: writes the figures of runs as pictures for papers, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from events.cli.app import open_run, run_name
from events.cli.output import AsJson, Printer, print_json, progress
from events.export import check_empty
from events.export.charts import compare_figures, run_figures
from events.export.plots import FORMATS, NUMBERS, write
from events.facts.errors import BadInput
from events.projections.run_summary import RunSummary, fold
from events.text.safe_text import markup


def plot(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs: directories, their log.sqlite, or postgresql:// URLs. Several are compared."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="A new or empty folder; NAME-plots here.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="FORMAT", help=f"Of the pictures: {', '.join(FORMATS)}; all of them."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the figures of runs as SVG and PNG, the points of each as CSV, and all of them as JSON."""
    wanted = list(dict.fromkeys(formats or FORMATS))
    if unknown := [form for form in wanted if form not in FORMATS]:
        raise BadInput(f"There is no picture format {unknown[0]!r}; the formats are {', '.join(FORMATS)}.")
    names = _names(logs)
    folder = out or Path(f"{'-'.join(names)}-plots")
    check_empty(folder)
    summaries = {name: _summary(where) for name, where in zip(names, logs, strict=True)}
    figures = (
        run_figures(*summaries.values())
        if len(summaries) == 1
        else compare_figures({name: run_figures(summary) for name, summary in summaries.items()})
    )
    if not figures:
        raise BadInput(f"There is nothing to plot in {', '.join(names)} yet; play an iteration first.")
    with progress("plotting") as on_progress:
        written = write(figures, folder, names, wanted, on_progress)
    if as_json:
        print_json({"runs": names, "out": str(folder), "figures": written, "formats": wanted})
    else:
        kinds = ", ".join([*wanted, "csv"])
        Printer().say(f"[green]plotted[/] {len(written)} figures into {markup(str(folder))}: {kinds}, and {NUMBERS}")


def _names(logs: Sequence[str]) -> list[str]:
    """Names of the runs, with numbers where two names are equal."""
    names = [run_name(where) for where in logs]
    return names if len(set(names)) == len(names) else [f"{name} {number}" for number, name in enumerate(names, 1)]


def _summary(where: str) -> RunSummary:
    with closing(open_run(where)) as log:
        return fold(RunSummary(), log.read())
