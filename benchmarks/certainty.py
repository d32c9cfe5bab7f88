"""Makes the question files of the comparison in docs/certainty.md, and prints its table from the runs.

python -m benchmarks.certainty questions                     # runs/certainty-questions
gasp experiment configs/experiments/certainty.toml           # plays; goes on where it was stopped
python -m benchmarks.certainty table runs/certainty          # means over seeds, as Markdown
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Final

import typer

from events.cli.app import open_run, run_app
from events.facts.certainty_facts import CalibrationFinished
from events.facts.values import Question
from events.text.phrases import MISSING
from roles.pocket.world import generate
from roles.questions.question_set import save_questions

COUNT: Final = 100
"""Questions of each file."""
FIGURES: Final = ("accuracy", "answer_rate", "accuracy_answered", "ap_certainty", "ap_confidence", "ece")
"""Columns of the table, properties of the calibration."""
app = typer.Typer(add_completion=False)


def files(seed: int = 0) -> dict[str, list[Question]]:
    """Questions by file: held out from the region of the training questions, and from the target region."""
    near = {"rare": (1, 2, 3)}
    return {
        "rest": generate("test", COUNT, seed, region="rest", **near),
        "validation": generate("validation", COUNT, seed, region="rest", **near),
        "target": generate("test", COUNT, seed, region="target", rare=(1, 2), families=("lists", "strings")),
    }


@app.command()
def questions(out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/certainty-questions")) -> None:
    """Write the question files."""
    out.mkdir(parents=True, exist_ok=True)
    for name, listed in files().items():
        save_questions(out / f"{name}.jsonl", listed)


@app.command()
def table(runs: Annotated[Path, typer.Argument(help="Folder of the runs.")]) -> None:
    """Print the last calibration of each recipe and set, mean and deviation over seeds, and the first one of the base model."""
    rows: dict[tuple[str, str], list[CalibrationFinished]] = defaultdict(list)
    for folder in sorted(runs.iterdir()):
        if (folder / "log.sqlite").exists():
            with closing(open_run(str(folder))) as log:
                facts = [event.fact for event in log.read(kinds=("calibration_finished",))]
                arm = folder.name.rpartition("-")[0]
                for fact in (fact for fact in facts if isinstance(fact, CalibrationFinished)):
                    rows[fact.name, "base" if fact.iteration == 0 else arm].append(fact)
    typer.echo(f"| set | model | runs | {' | '.join(FIGURES)} | refused |")
    typer.echo("|---|---|---|" + "---|" * (len(FIGURES) + 1))
    for (name, arm), own in sorted(rows.items()):
        figures = [_spread([getattr(fact, figure) for fact in own]) for figure in FIGURES]
        refused = _spread([fact.refused / fact.answers for fact in own])
        typer.echo(f"| {name} | {arm} | {len(own)} | {' | '.join(figures)} | {refused} |")


def _spread(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return MISSING
    return f"{fmean(there):.3f}" + (f" ± {stdev(there):.3f}" if len(there) > 1 else "")


if __name__ == "__main__":
    run_app(app)
