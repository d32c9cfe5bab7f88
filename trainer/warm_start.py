"""`sft` and `dpo`: commands that tune a model on what the logs of runs verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from events.cli.app import open_run
from events.cli.output import Printer, progress
from events.facts.log import Log

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.")]
Out = Annotated[Path, typer.Option(help="New folder for the model, in Hugging Face format.")]
Model = Annotated[
    str | None, typer.Option(help="Model to tune, as the setting `model`; the first run's first weights by default.")
]
Epochs = Annotated[int, typer.Option(min=1, help="Times that each example is learned.")]
Batch = Annotated[int, typer.Option(min=1, help="Examples an optimizer step.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the order of the examples.")]
Row = TypeVar("Row")


def sft(
    runs: Runs,
    out: Out,
    model: Model = None,
    epochs: Epochs = 1,
    learning_rate: Annotated[float, typer.Option(min=0, help="Falls linearly to 0.")] = 2e-5,
    batch: Batch = 8,
    seed: Seed = 0,
) -> None:
    """Tune a model on every answer that passed (TRL's SFTTrainer), as a warm start of a run.

    Play with the result by --set model=OUT. Answers to goalposts and in
    examinations are left out, because those measure.
    """
    from trainer.data import preferences
    from trainer.job.offline import source_of, start_weights
    from trainer.learn import tuning

    start = start_weights(runs, model)
    found = _all(runs, preferences.passed_completions)
    tuning.prepare_process(start, out)
    how = tuning.TuningSettings(learning_rate, epochs, batch, seed)
    with progress("tuning, steps") as say:
        digest = tuning.sft(start, found, [source_of(run) for run in runs], how, out, say)
    Printer().say(f"{out} · {digest} · tuned on {len(found)} answers that passed")


def dpo(
    runs: Runs,
    out: Out,
    model: Model = None,
    epochs: Epochs = 1,
    learning_rate: Annotated[float, typer.Option(min=0, help="Falls linearly to 0.")] = 1e-6,
    beta: Annotated[float, typer.Option(min=0, help="How much leaving the first weights costs.")] = 0.1,
    batch: Batch = 8,
    seed: Seed = 0,
) -> None:
    """Tune a model to prefer answers that passed to those that failed (TRL's DPOTrainer).

    Each pair is of one prompt; a prompt whose answers all passed or all
    failed gives none.
    """
    from trainer.data import preferences
    from trainer.job.offline import source_of, start_weights
    from trainer.learn import tuning

    start = start_weights(runs, model)
    found = _all(runs, preferences.preference_pairs)
    tuning.prepare_process(start, out)
    how = tuning.TuningSettings(learning_rate, epochs, batch, seed, beta)
    with progress("tuning, steps") as say:
        digest = tuning.dpo(start, found, [source_of(run) for run in runs], how, out, say)
    Printer().say(f"{out} · {digest} · tuned on {len(found)} pairs")


def _all(runs: Sequence[Path], read: Callable[[Log], Iterator[Row]]) -> list[Row]:
    found: dict[Row, None] = {}
    for run in runs:
        with closing(open_run(str(run))) as log:
            found.update(dict.fromkeys(read(log)))
    return list(found)
