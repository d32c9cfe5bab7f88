"""Estimates hours, disk and money of a run from its settings and the dimensions of its model.

docs/estimates.md explains each formula and holds the table that `python -m graph.estimate.budget CONFIG` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import typer

from events.cli.app import run_app
from events.reports.documents import replace_generated
from graph.estimate.memory import GPU_HELP, Gpu, Memory, gpu_of
from graph.estimate.model_dims import ModelDims, dims_of
from graph.estimate.token_estimate import (
    TokenEstimate,
    count_evaluations,
    count_iterations,
    tokens_of_evaluation,
    tokens_of_iteration,
)
from graph.settings.config import Config
from graph.settings.configure import configure, with_overrides

DISK_BYTES_PER_S: Final = 2e9
"""Bytes a second that the disk reads or writes."""
VERDICTS_PER_S: Final = 100.0
"""Programs a second that the sandbox judges."""
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "full": ("learn.shard=none", "learn.optimizer=adamw", "learn.lora.rank=0"),
    "full, sharded": ("learn.shard=zero3", "learn.optimizer=adamw", "learn.lora.rank=0"),
    "full, 8-bit Adam": ("learn.shard=none", "learn.optimizer=adamw_8bit", "learn.lora.rank=0"),
    "LoRA": ("learn.shard=none", "learn.optimizer=adamw", "learn.lora.rank=32"),
}
"""The ways of training that the table compares."""


@dataclass(frozen=True)
class Budget:
    """The estimates of a run."""

    config: Config
    dims: ModelDims
    gpu: Gpu

    @cached_property
    def memory(self) -> Memory:
        """Its memory."""
        return Memory(self.config, self.dims, self.gpu)

    @property
    def saved(self) -> float:
        """Bytes that an update of a policy writes: trained weights in float32 and optimizer moments."""
        return 4 * self.memory.trained + self.memory.moments

    def log(self, work: TokenEstimate) -> float:
        """Bytes in the log: 8 a token for id, logprob and text, compressed, and 650 a completion."""
        return 8 * work.tokens + 650 * work.completions

    @property
    def disk(self) -> float:
        """Bytes at the end: the first weights in bfloat16, those kept, one update being written, and the log."""
        keep, last = self.config.learn, count_iterations(self.config)
        kept = keep.keep + 1 + (last // keep.keep_every if keep.keep_every else 0) + bool(keep.keep_best)
        log = last * self.log(tokens_of_iteration(self.config)) + count_evaluations(self.config) * self.log(
            tokens_of_evaluation(self.config)
        )
        return 2 * self.dims.weights + self.memory.policy_count * min(kept, last + 1) * self.saved + log

    def sampling_s(self, work: TokenEstimate) -> float:
        """Seconds of sampling, at two FLOPs a weight and token, and of verdicts."""
        flops = 2 * self.dims.weights * work.tokens
        sampling = flops / (sum(map(len, self.memory.server_gpus)) * self.gpu.peak * self.gpu.sampling_mfu)
        return sampling + work.answers / VERDICTS_PER_S

    def learning_s(self, work: TokenEstimate) -> float:
        """Seconds of training, at two FLOPs a weight and token for each pass.

        Passes: one forward and two backward (one if the weights are frozen); one more if layers are recomputed, and one for
        `learn.kl`.
        """
        learn = self.config.learn
        passes = (2 if learn.lora.rank else 3) + learn.gradient_checkpointing + bool(learn.kl)
        flops = 2 * passes * self.dims.weights * work.trained_tokens * learn.epochs
        return flops / (learn.processes * self.gpu.peak * self.gpu.learning_mfu)

    @property
    def weight_sync_s(self) -> float:
        """Seconds to write an update and for the model server to read its weights."""
        return self.memory.policy_count * (self.saved + 4 * self.memory.trained) / DISK_BYTES_PER_S

    def hours(self, *, most: bool = False) -> float:
        """Hours of the run."""
        work = tokens_of_iteration(self.config, most=most)
        each = self.sampling_s(work) + self.learning_s(work) + self.weight_sync_s
        return count_iterations(self.config, most=most) * each / 3600 + self.evaluation_hours(most=most)

    def evaluation_hours(self, *, most: bool = False) -> float:
        """Hours of all evaluations."""
        return count_evaluations(self.config) * self.sampling_s(tokens_of_evaluation(self.config, most=most)) / 3600


def comparison_table(config: Config, dims: ModelDims, gpu: Gpu) -> list[str]:
    """The same run trained in several ways, as rows of a Markdown table."""
    ways = {
        name: with_overrides(config, settings)
        for name, settings in VARIANTS.items()
        if config.learn.processes > 1 or "sharded" not in name
    }
    budgets = [Budget(config, dims, gpu) for config in ways.values()]

    def row(what: str, value: Callable[[Budget], float], unit: str = "GB", scale: float = 1e9) -> str:
        figures = [float(f"{value(each) / scale:.3g}") for each in budgets]
        return f"| {what} | {' | '.join(f'{figure:,g} {unit}' for figure in figures)} |"

    work = tokens_of_iteration(config)
    return [
        f"| | {' | '.join(ways)} |",
        f"|{' --- |' * (1 + len(ways))}",
        row("weights, gradients, moments", lambda each: each.memory.state),
        row("copies in bfloat16", lambda each: each.memory.copies),
        row("gathered for a while from shards", lambda each: each.memory.gathered),
        row("activations", lambda each: each.memory.activations),
        row("**memory of a training process**", lambda each: each.memory.trainer),
        row("of which stays while servers sample", lambda each: each.memory.resident),
        row("weights of a model server on each of its GPUs", lambda each: each.memory.server_weights),
        row("keys and values of 1000 tokens", lambda each: 1000 * each.memory.cache),
        row("an update on disk", lambda each: each.saved),
        row("an iteration in the log", lambda each: each.log(work)),
        row("sampling and verdicts", lambda each: each.sampling_s(work), "s", 1),
        row("training", lambda each: each.learning_s(work), "s", 1),
        row("writing an update and syncing its weights", lambda each: each.weight_sync_s, "s", 1),
        row("an evaluation", lambda each: each.sampling_s(tokens_of_evaluation(config)), "s", 1),
        row("**the run**", lambda each: each.hours(), "h", 1),
    ]


def main(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help=GPU_HELP)] = None,
    into: Annotated[Path | None, typer.Option(help="Write the table into this document, where its marks are.")] = None,
) -> None:
    """Estimated memory, bytes and time of a run by way of training; docs/estimates.md says what is assumed."""
    config = configure(config_file, overrides or [])
    dims = dims_of(config.model)
    lines = comparison_table(config, dims, gpu_of(gpu, dims))
    if into is None:
        typer.echo("\n".join(lines))
    else:
        into.write_text(replace_generated(into.read_text(), "budget", "\n".join(lines)))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run_app(app)
