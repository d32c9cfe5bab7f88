"""Command line: `python -m trainer.experiment FILE.toml` plays recipes x seeds as ordinary runs and reports results."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from events.cli.app import run_app, typed_command
from events.cli.output import Printer, print_note
from events.facts.errors import BadInput, GaspError
from events.process.console import detachable_console
from graph.estimate.memory import GPU_HELP
from trainer.experiments.experiment_plan import ExperimentPlan, read_plan

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

HELP = """Compare recipes: play each on each seed, as the plan in FILE says, and report the results.

Runs are ordinary runs in `runs/PLAN/RECIPE-SEED`, several at once. Stop with Ctrl-C at any moment; the same command goes on:
finished runs are skipped, others resumed. A run that fails stops no other; its output is in `RECIPE-SEED.out`.

- `gasp experiment configs/experiments/pocket.toml` plays all recipes on the pocket world
- `gasp experiment configs/experiments/pocket.toml --report` writes tables and plots of the runs so far
- `gasp experiment --smoke` plays three recipes for two tiny iterations, and reports
"""
RUNS: Final = Path("runs")
SMOKE: Final = ExperimentPlan(
    name="smoke",
    seeds=(0,),
    settings={
        "validation": "pocket",
        "play": {"iterations": 2, "episodes": 3, "practice": 3, "practice_attempts": 4, "attempts": 4, "max_attempts": 2},
        "evaluate": {"questions": 3, "attempts": 8, "every": 1},
        "learn": {"keep": 3},
        "verify": {"workers": 1},
    },
    recipes={"gasp": {}, "azr": {}, "rlvr": {}},
)


@app.command(help=HELP)
def main(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.toml", help="The plan: docs/experiments.md.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of all runs; may be repeated.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the folder of the experiment.")] = RUNS,
    parallel: Annotated[int | None, typer.Option(min=1, help="Runs that play at once; one a core by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Play nothing: estimate each recipe's samples and hours.")] = False,
    gpu: Annotated[str | None, typer.Option(help=f"With --dry-run. {GPU_HELP}")] = None,
    report: Annotated[bool, typer.Option("--report", help="Play nothing: write tables and plots of the runs so far.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; `docs`, or with --smoke beside its runs.")] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help="Folder for outcomes of finished runs: what is there, from other machines, is reported and not played again;"
            " what finishes here is added."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Try everything at a tiny size; takes no FILE.")] = False,
) -> None:
    """Read the plan, then play it or report."""
    if (file is None) != smoke or (smoke and overrides):
        raise BadInput(
            "Give the FILE.toml of a plan, or --smoke, and not both, and --set with a plan only; --help shows examples."
        )
    plan = SMOKE if file is None else read_plan(file, overrides or [])
    folder = runs / plan.name
    if dry_run:
        from trainer.experiments.experiment_preview import budget_table

        Printer().show(budget_table(plan, gpu))
        return
    if not report:
        _play(plan, folder, parallel or len(os.sched_getaffinity(0)), outcomes)
    if report or smoke:
        _report(plan, folder, out or (folder / "report" if smoke else Path("docs")), outcomes)
    elif file is not None:
        where = "" if runs == RUNS else f" --runs {shlex.quote(str(runs))}"
        changed = "".join(f" --set {shlex.quote(override)}" for override in overrides or ())
        where += "" if outcomes is None else f" --outcomes {shlex.quote(str(outcomes))}"
        command = f"{typed_command('trainer.experiment')} {shlex.quote(str(file))}{changed}{where} --report"
        print_note(f"Write tables and plots with: {command}")


def _play(plan: ExperimentPlan, folder: Path, parallel: int, outcomes: Path | None) -> None:
    from graph.setup.folder import run_lock
    from trainer.experiments.outcome_files import OutcomeFiles
    from trainer.experiments.progress import progress
    from trainer.experiments.runs import play, runs_of

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"Folder {folder} cannot be made: {error}; choose another --runs.") from error
    with run_lock(folder):
        planned = runs_of(plan, folder)
        files = None if outcomes is None else OutcomeFiles(plan, outcomes)
        if files is not None:
            here = [run for run in planned if files.read(run.cell) is None]
            print_note(f"{len(planned) - len(here)} of {len(planned)} runs have their outcome in {outcomes}")
            planned = here
        try:
            with progress(detachable_console(), planned) as show:
                play(planned, parallel, show, finished=None if files is None else files.save)
        except KeyboardInterrupt:
            print_note("Stopped; repeat the command to go on.")
            raise
    failed = [run for run in planned if run.state == "failed"]
    for run in failed:
        print_note(f"{run.cell.run} failed with {run.error_summary} (see {run.output})")
    if failed:
        raise GaspError(
            f"{len(failed)} of {len(planned)} runs failed; fix the cause, then repeat the command to go on with them."
        )


def _report(plan: ExperimentPlan, folder: Path, out: Path, outcomes: Path | None) -> None:
    from trainer.experiments.outcome_files import OutcomeFiles
    from trainer.experiments.report import write

    for given in (folder,) if outcomes is None else (outcomes,):
        if not given.is_dir():
            raise BadInput(f"There are no runs in {given}; play them first, without --report.")
    write(plan, folder, out, print_note, None if outcomes is None else OutcomeFiles(plan, outcomes))


if __name__ == "__main__":
    run_app(app)
