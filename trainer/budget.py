"""What a setting needs, on paper: memory, bytes and time of one iteration, as the table of docs/scaling.md.

Law: plain arithmetic from the shape of a model and from stated assumptions; nothing is measured and nothing is loaded. One
line of the table is one formula.

    python -m trainer.budget --help
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import typer

Way = Literal["full", "full, 8-bit Adam", "LoRA"]
WAYS: Final[tuple[Way, ...]] = ("full", "full, 8-bit Adam", "LoRA")
_GB: Final = 1e9


@dataclass(frozen=True)
class Plan:
    """A model, an iteration, and a machine; by default Qwen2.5-Coder-7B, an iteration like the paper's, and 4 H100."""

    weights: float = 7.62e9
    layers: int = 28
    width: int = 3584
    inner: int = 18_944
    key_values: int = 512
    """Width of the keys, and of the values."""
    rank: int = 32
    """Of adapters on all linear layers."""
    batch_tokens: int = 16_384
    """Padded tokens of a forward pass."""
    sampled: int = 4300
    """Completions of an iteration."""
    learned: int = 1500
    """Completions that an iteration learns from."""
    prompt: int = 600
    """Tokens of a prompt, on average."""
    completion: int = 1000
    """Tokens of a completion, on average."""
    gpus: int = 4
    peak: float = 989e12
    """FLOP/s of a GPU at best, in bfloat16."""
    utilization: float = 0.4
    """Share of it that learning reaches (MFU)."""
    decoding: float = 0.15
    """Share of it that sampling reaches, in large batches."""
    disk: float = 2e9
    """Bytes a second of the disk that weights go through."""

    @property
    def adapter(self) -> float:
        """Weights of the adapters: `rank` rows and columns for every linear layer."""
        attention = 2 * (self.width + self.width) + 2 * (self.width + self.key_values)
        return self.layers * self.rank * (attention + 3 * (self.width + self.inner))

    def trained(self, way: Way) -> float:
        """Weights that take gradients."""
        return self.adapter if way == "LoRA" else self.weights

    def state(self, way: Way) -> float:
        """Bytes of weights (float32), gradients (float32) and two moments of Adam (float32, or a byte each)."""
        moments = 2 if way == "full, 8-bit Adam" else 8
        return 4 * self.weights + (4 + moments) * self.trained(way) + (4 * self.adapter if way == "LoRA" else 0)

    def copies(self, way: Way) -> float:
        """Bytes of weights in bfloat16 while a pass computes; frozen ones are cast layer by layer."""
        return 2 * self.trained(way)

    @property
    def layer(self) -> float:
        """Bytes that one layer keeps for its gradient: inputs of linear layers in bfloat16, the residual stream in float32."""
        return self.batch_tokens * (2 * (3 * self.width + 2 * self.key_values + 3 * self.inner) + 4 * 4 * self.width)

    @property
    def activations(self) -> float:
        """Bytes with gradient checkpointing: every layer's input in float32, and one layer in full."""
        return 4 * self.batch_tokens * self.width * self.layers + self.layer

    def learner(self, way: Way) -> float:
        """Bytes of one process that learns; every one holds whole weights."""
        return self.state(way) + self.copies(way) + self.activations

    @property
    def cache(self) -> float:
        """Bytes of keys and values in bfloat16 of one token that is being sampled."""
        return 2.0 * 2 * self.layers * self.key_values

    def saved(self, way: Way) -> float:
        """Bytes that an update writes: what was trained, in float32, and its moments."""
        return (4 + (2 if way == "full, 8-bit Adam" else 8)) * self.trained(way)

    @property
    def log(self) -> float:
        """Bytes that an iteration adds to the log: ids, logprobs and text of a token compressed to 8, 650 more a completion."""
        return self.sampled * (8 * self.completion + 650)

    @property
    def sampling_s(self) -> float:
        """Seconds of sampling: two FLOPs a weight and token."""
        return self.sampled * self.completion * 2 * self.weights / (self.gpus * self.peak * self.decoding)

    def learning_s(self, way: Way) -> float:
        """Seconds of learning: two FLOPs a weight and token a pass, and one recomputes; frozen weights need one less."""
        flops = (6.0 if way == "LoRA" else 8.0) * self.weights
        return self.learned * (self.prompt + self.completion) * flops / (self.gpus * self.peak * self.utilization)

    def delivery_s(self, way: Way) -> float:
        """Seconds to write an update and for the model server to read its weights."""
        return (self.saved(way) + 4 * self.trained(way)) / self.disk


def table(plan: Plan) -> list[str]:
    """The plan in Markdown."""

    def row(what: str, *values: float, unit: str = "GB", scale: float = _GB) -> str:
        shown = values if len(values) > 1 else values * len(WAYS)
        return f"| {what} | {' | '.join(f'{value / scale:.3g} {unit}' for value in shown)} |"

    def each(what: str, of: str, *, seconds: bool = False) -> str:
        return row(what, *(getattr(plan, of)(way) for way in WAYS), **({"unit": "s", "scale": 1.0} if seconds else {}))  # type: ignore[arg-type]

    return [
        f"| | {' | '.join(WAYS)} |",
        f"|{' --- |' * (1 + len(WAYS))}",
        each("weights, gradients, moments", "state"),
        each("copies in bfloat16", "copies"),
        row("activations, recomputed", plan.activations),
        each("**memory of a learning process**", "learner"),
        row("activations, were they kept", plan.layers * plan.layer),
        row("weights of the model server, bfloat16", 2 * plan.weights),
        row("keys and values of 1000 tokens", 1000 * plan.cache),
        each("an update on disk", "saved"),
        row("an iteration in the log", plan.log),
        row("sampling", plan.sampling_s, unit="s", scale=1.0),
        each("learning", "learning_s", seconds=True),
        each("writing an update and reading its weights", "delivery_s", seconds=True),
    ]


def main(
    weights: Annotated[float, typer.Option(help="Weights of the model.")] = Plan.weights,
    layers: Annotated[int, typer.Option(help="Its layers.")] = Plan.layers,
    width: Annotated[int, typer.Option(help="Its width.")] = Plan.width,
    inner: Annotated[int, typer.Option(help="Width of its MLPs.")] = Plan.inner,
    key_values: Annotated[int, typer.Option(help="Width of keys, and of values.")] = Plan.key_values,
    gpus: Annotated[int, typer.Option(help="GPUs that take turns in sampling and learning.", min=1)] = Plan.gpus,
    tflops: Annotated[float, typer.Option(help="TFLOP/s of one of them at best, in bfloat16.")] = Plan.peak / 1e12,
    sampled: Annotated[int, typer.Option(help="Completions of an iteration.")] = Plan.sampled,
    learned: Annotated[int, typer.Option(help="Completions that are learned from.")] = Plan.learned,
    completion: Annotated[int, typer.Option(help="Tokens of a completion, on average.")] = Plan.completion,
) -> None:
    """Memory, bytes and time of one iteration, on paper; docs/scaling.md says what is assumed."""
    plan = replace(Plan(), weights=weights, layers=layers, width=width, inner=inner, key_values=key_values, gpus=gpus)
    plan = replace(plan, peak=tflops * 1e12, sampled=sampled, learned=learned, completion=completion)
    for line in table(plan):
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
