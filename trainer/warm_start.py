"""Commands `sft` and `dpo`: tune a model on the verified completions of runs, as a warm start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from events.cli.output import Printer, progress
from events.facts.log import Log
from events.facts.values import Digest

if TYPE_CHECKING:
    from trainer.learn.tuning import TuningSettings

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.")]
Out = Annotated[Path, typer.Option(help="New folder for the model, in Hugging Face format.")]
Model = Annotated[
    str | None, typer.Option(help="Model to tune, as the setting `model`; the first run's first weights by default.")
]
Epochs = Annotated[int, typer.Option(min=1, help="Times that each example is learned.")]
Batch = Annotated[int, typer.Option(min=1, help="Examples an optimizer step.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the order of the examples.")]
Example = TypeVar("Example")


def sft(
    runs: Runs,
    out: Out,
    model: Model = None,
    epochs: Epochs = 1,
    learning_rate: Annotated[float, typer.Option(min=0, help="Falls linearly to 0.")] = 2e-5,
    batch: Batch = 8,
    seed: Seed = 0,
) -> None:
    """Tune a model on every completion that passed (TRL's SFTTrainer), as a warm start of a run.

    Play with the result by --set model=OUT. Completions for goalposts and in
    evaluations are left out, because those measure.
    """
    from trainer.data.preferences import passed_completions
    from trainer.learn import tuning

    settings = tuning.TuningSettings(learning_rate, epochs, batch, seed)
    count, digest = _tune(runs, out, model, settings, passed_completions, tuning.sft)
    Printer().say(f"{out} · {digest} · tuned on {count} completions that passed")


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
    """Tune a model to prefer completions that passed to those that failed (TRL's DPOTrainer).

    Each pair is of one prompt; a prompt whose completions all passed or
    all failed gives none.
    """
    from trainer.data.preferences import preference_pairs
    from trainer.learn import tuning

    settings = tuning.TuningSettings(learning_rate, epochs, batch, seed, beta)
    count, digest = _tune(runs, out, model, settings, preference_pairs, tuning.dpo)
    Printer().say(f"{out} · {digest} · tuned on {count} pairs")


def _tune(
    runs: Sequence[Path],
    out: Path,
    model: str | None,
    settings: TuningSettings,
    read_examples: Callable[[Log], list[Example]],
    method: Callable[..., Digest],
) -> tuple[int, Digest]:
    """Tune on the distinct examples of all runs; returns their count and the digest of the weights."""
    from trainer.job.offline import open_sources, start_weights
    from trainer.learn.tuning import prepare_process

    with open_sources(runs) as sources:
        start = start_weights(sources, model)
        examples = list(dict.fromkeys(chain.from_iterable(read_examples(source.log) for source in sources)))
        names = [source.name() for source in sources]
    prepare_process(start, out)
    with progress("tuning, steps") as task:
        return len(examples), method(start, examples, names, settings, out, task)
