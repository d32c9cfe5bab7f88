"""The report of an experiment: a page of tables in Markdown, and plots in a folder beside it.

Guarantees: equal logs give equal bytes. The report of an experiment that is not over names what is missing.
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


def write(plan: ExperimentPlan, folder: Path, out: Path, notify: Callable[[str], None]) -> None:
    """Read the runs of a plan in `folder`, and write `results.md` and the folder `results` with its plots into `out`.

    Raises:
        BadInput: a run is of another plan, two were evaluated on different questions, or the extra `plots` is not installed.
        LogError: a log cannot be read.
    """
    results = read(plan, folder)
    begun = sum(len(results.outcomes(recipe)) for recipe in results.cells)
    notify(f"read {begun} of {len(list(plan.cells()))} runs")
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw_plots(results, out / PLOTS)
    (out / PAGE).write_text(page(plan.name, results, drawn), encoding="utf-8")
    notify(f"wrote {out / PAGE} and {len(drawn)} plots in {out / PLOTS}")


def read(plan: ExperimentPlan, folder: Path) -> Results:
    """The results of a plan so far; runs of a seed that begin with the same weights share an evaluation of those."""
    outcomes = {cell: _outcome(plan, cell, folder / cell.run) for cell in plan.cells()}
    cells: dict[str, dict[int, RunOutcome | None]] = {recipe: {} for recipe in plan.recipes}
    for cell, own in outcomes.items():
        siblings = [outcome for other, outcome in outcomes.items() if other.seed == cell.seed and outcome is not None]
        cells[cell.recipe][cell.seed] = own and own.with_shared_start(siblings)
    return Results(cells)


def _outcome(plan: ExperimentPlan, cell: Cell, run: Path) -> RunOutcome | None:
    if not holds_log(run):
        return None
    with closing(open_run(str(run))) as log:
        outcome = run_outcome(log)
    played = {key: outcome.started.config.get(key) for key in ("recipe", "seed")}
    if played != {"recipe": plan.config(cell.recipe, cell.seed).recipe, "seed": cell.seed}:
        raise BadInput(f"{run} holds another run than {plan.name} wants there; move it away, or give the plan another name.")
    return outcome
