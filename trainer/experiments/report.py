"""The report of an experiment: tables in Markdown, as a page or between marks of a document, and plots in a folder beside it.

Guarantees: equal logs give equal bytes. The report of an experiment that is not over names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from events.cli.app import holds_log, open_run
from events.facts.errors import BadInput
from events.reports.documents import fill_generated, generated_names
from trainer.experiments.experiment_plan import Cell, ExperimentPlan
from trainer.experiments.figures import plots_of
from trainer.experiments.outcome import RunOutcome, run_outcome
from trainer.experiments.outcome_files import OutcomeFiles
from trainer.experiments.page import PLOTS, page, parts
from trainer.experiments.plots import Plot, draw
from trainer.experiments.results import Results
from trainer.experiments.sections import report_command

PAGE: Final = "results.md"


def write(
    plan: ExperimentPlan, folder: Path, out: Path, notify: Callable[[str], None], outcomes: OutcomeFiles | None = None
) -> None:
    """Read the runs of a plan in `folder`, and write its report into `out`; `outcomes` are read of runs that are not there.

    That is `results.md` and its plots in the folder `results`, or, if the plan names a document, what stands between its marks,
    and the plots that it shows in a folder of its name.

    Raises:
        BadInput: a run is of another plan, two were evaluated on different questions, the document cannot be read or has marks
            for what there is not, or the extra `plots` is not installed.
        LogError: a log cannot be read.
    """
    results = read(plan, folder, outcomes)
    begun = sum(len(results.outcomes(recipe)) for recipe in results.cells)
    notify(f"read {begun} of {len(list(plan.cells()))} runs")
    plots = plots_of(results)
    if plan.document is None:
        out.mkdir(parents=True, exist_ok=True)
        file, images, text = out / PAGE, out / PLOTS, page(plan.name, results, plots)
    else:
        file = out / plan.document
        images = file.with_suffix("")
        text, plots = _filled(plan, results, plots, file)
    for plot in plots:
        draw(images, plot)
    file.write_text(text, encoding="utf-8")
    notify(f"wrote {file} and {len(plots)} plots in {images}")


def _filled(plan: ExperimentPlan, results: Results, plots: Sequence[Plot], file: Path) -> tuple[str, list[Plot]]:
    """A document with its parts made anew, and the plots that it shows."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"Document {file} of plan {plan.name} cannot be read: {error}; give the folder of it as --out."
        ) from error
    command = report_command(plan.name)
    names, known = generated_names(text, command), parts(plan, results, plots, file.stem)
    if not names:
        mark = f"<!-- NAME: begin (made by `{command}`) -->"
        raise BadInput(f"Document {file} has no marks for plan {plan.name}; add lines such as {mark} and <!-- NAME: end -->.")
    for name in names:
        if name not in known:
            raise BadInput(
                f"Document {file} has marks for {name!r}, which there is not (yet); the runs have {', '.join(known)}."
            )
    shown = [plot for plot in plots if plot.file.removesuffix(".svg") in names]
    return fill_generated(text, command, known), shown


def read(plan: ExperimentPlan, folder: Path, files: OutcomeFiles | None = None) -> Results:
    """The results of a plan so far; runs of a seed that begin with the same weights share an evaluation of those."""
    outcomes = {
        cell: _outcome(plan, cell, folder / cell.run) or (None if files is None else files.read(cell)) for cell in plan.cells()
    }
    cells: dict[str, dict[int, RunOutcome | None]] = {recipe: {} for recipe in plan.recipes}
    for cell, own in outcomes.items():
        siblings = [outcome for other, outcome in outcomes.items() if other.seed == cell.seed and outcome is not None]
        cells[cell.recipe][cell.seed] = own and own.with_shared_start(siblings)
    return Results(cells, {str(name): title for name, title in plan.sets.items()})


def _outcome(plan: ExperimentPlan, cell: Cell, run: Path) -> RunOutcome | None:
    if not holds_log(run):
        return None
    with closing(open_run(str(run))) as log:
        outcome = run_outcome(log)
    played = {key: outcome.started.config.get(key) for key in ("recipe", "seed")}
    if played != {"recipe": plan.config(cell.recipe, cell.seed).recipe, "seed": cell.seed}:
        raise BadInput(f"{run} holds another run than {plan.name} wants there; move it away, or give the plan another name.")
    return outcome
