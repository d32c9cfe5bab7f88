"""Writes what an experiment found: a page of tables in Markdown, and plots in a folder beside it.

Law: nothing in it is typed by hand, and equal logs give equal bytes. An experiment that is not over is written as far as it is,
and what is missing is named. Text of logs takes no effect in the page.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from events.cli.app import holds_log, open_run
from events.facts.errors import BadInput
from trainer.experiments.experiment_plan import Cell, ExperimentPlan
from trainer.experiments.figures import draw_plots
from trainer.experiments.outcome import RunOutcome, run_outcome
from trainer.experiments.page import PLOTS, page
from trainer.experiments.results import Results

PAGE: Final = "results.md"


def write(plan: ExperimentPlan, folder: Path, out: Path, say: Callable[[str], None]) -> None:
    """Write `results.md` and the folder `results` with its plots.

    Args:
        plan: what was to be played.
        folder: where the folders of its runs are.
        out: where to write.
        say: told what was read and written.

    Raises:
        BadInput: a run is of another plan, two were examined on different questions, or the extra `plots` is not installed.
        LogError: a log cannot be read.
    """
    results = read(plan, folder)
    begun = sum(len(results.outcomes(recipe)) for recipe in results.cells)
    say(f"read {begun} of {len(list(plan.cells()))} runs")
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw_plots(results, out / PLOTS)
    (out / PAGE).write_text(page(plan.name, results, drawn), encoding="utf-8")
    say(f"wrote {out / PAGE} and {len(drawn)} plots in {out / PLOTS}")


def read(plan: ExperimentPlan, folder: Path) -> Results:
    """What the runs of a plan found so far; runs of a seed that begin with the same weights share an examination of those."""
    found = {cell: _outcome(plan, cell, folder / cell.run) for cell in plan.cells()}
    cells: dict[str, dict[int, RunOutcome | None]] = {recipe: {} for recipe in plan.recipes}
    for cell, own in found.items():
        siblings = [one for other, one in found.items() if other.seed == cell.seed and one is not None]
        cells[cell.recipe][cell.seed] = own and own.with_shared_start(siblings)
    return Results(cells)


def _outcome(plan: ExperimentPlan, cell: Cell, run: Path) -> RunOutcome | None:
    if not holds_log(run):
        return None
    with closing(open_run(str(run))) as log:
        found = run_outcome(log)
    played = {key: found.started.config.get(key) for key in ("recipe", "seed")}
    if played != {"recipe": plan.config(cell.recipe, cell.seed).recipe, "seed": cell.seed}:
        raise BadInput(f"{run} holds another run than {plan.name} wants there; move it away, or give the plan another name.")
    return found
