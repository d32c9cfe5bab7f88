"""Makes the pocket weights: `python -m roles.pocket.pretrain` trains tokenizer and model from one seed.

Guarantees: same seed and machine, same bytes (one thread).

It also writes Adam's second moments: reinforcement learning continues from them, since a cold optimizer destroys so small a
model within a few steps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from events.cli.app import run_app
from roles.pocket.corpus import Corpus, CorpusExample
from roles.pocket.generation import FIRST, GENERATIONS, PocketGeneration, named_generation
from roles.pocket.tokenizer import CONTEXT, train_tokenizer
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS

if TYPE_CHECKING:
    import torch

_POOL: Final = 16
"""Batches that are sorted by length together, so that little is padding."""
_TOKENIZER_EXAMPLES: Final = 8000
_BETAS: Final = (0.9, 0.95)
_TAIL: Final = 0.2
"""What a token of a proposal's inputs counts, next to 1 for the rest of an answer."""
_REPORT: Final = 100
"""Steps between lines that stay on the screen."""


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of one pretraining."""

    generation: PocketGeneration = FIRST
    seed: int = 0
    width: int = 128
    layers: int = 4


def pretrain(out: Path, recipe: PretrainSettings) -> None:
    """Train and write a weights folder."""
    import torch
    from rich.progress import Progress
    from transformers import Qwen3ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    steps = recipe.generation.steps
    rng = random.Random(recipe.seed)  # noqa: S311 - a reproducible corpus, not secrets
    corpus = Corpus(Prompts(SHIPPED_PROMPTS / recipe.generation.name), recipe.generation)
    examples = (corpus.draw(rng) for _ in range(_TOKENIZER_EXAMPLES))
    tokenizer = train_tokenizer((e.prompt + e.answer + e.tail for e in examples), recipe.generation.pieces)
    model = Qwen3ForCausalLM(_config(recipe, tokenizer))
    if recipe.generation.start is not None:
        _carry_over(model, tokenizer, recipe.generation.start.weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.generation.rate, betas=_BETAS, weight_decay=0.01)
    with Progress() as progress:
        task = progress.add_task("pretraining", total=steps)
        for step, (ids, weights) in enumerate(_batches(corpus, tokenizer, rng, recipe)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.generation.rate * _schedule(step, steps)
            loss = _loss(model, ids, weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.update(task, advance=1, description=f"pretraining, loss {loss.item():.3f}")
            if (step + 1) % _REPORT == 0:
                progress.console.print(f"step {step + 1} of {steps}: loss {loss.item():.4f}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _save_optimizer(out, model, optimizer)


def _config(recipe: PretrainSettings, tokenizer: Any) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=3 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=recipe.width // 4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        # 0.02 is for wide models: at this width it costs a thousand steps before the model begins to copy.
        initializer_range=0.08,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )


def _carry_over(model: Any, tokenizer: Any, folder: Path) -> None:
    """Copy trained weights of the same shape into the model; of tokens, the rows of those that both tokenizers have."""
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

    trained = Qwen3ForCausalLM.from_pretrained(folder).state_dict()
    rows, vocabulary = tokenizer.get_vocab(), PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()
    shared = sorted(rows.keys() & vocabulary.keys())
    here, there = ([ids[token] for token in shared] for ids in (rows, vocabulary))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                parameter[here] = trained[name][there]
            else:
                parameter.copy_(trained[name])


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batches(
    corpus: Corpus, tokenizer: Any, rng: random.Random, recipe: PretrainSettings
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded ids [B, T], and how much each counts [B, T]: prompts and padding 0, the end token 1."""
    left = recipe.generation.steps
    while left:
        rows = [_row(tokenizer, corpus.draw(rng)) for _ in range(recipe.generation.batch * _POOL)]
        rows.sort(key=len)
        chunks = [rows[i : i + recipe.generation.batch] for i in range(0, len(rows), recipe.generation.batch)]
        rng.shuffle(chunks)
        for chunk in chunks[: min(left, _POOL)]:
            yield _padded(chunk, tokenizer.pad_token_id)
            left -= 1


def _padded(rows: list[list[tuple[float, float]]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    longest = min(CONTEXT, len(rows[-1]))
    ids = torch.full((len(rows), longest), padding)
    weights = torch.zeros((len(rows), longest))
    for i, whole in enumerate(rows):
        row = torch.tensor(whole[:longest])
        ids[i, : len(row)] = row[:, 0].long()
        weights[i, : len(row)] = row[:, 1]
    return ids, weights


def _row(tokenizer: Any, example: CorpusExample) -> list[tuple[float, float]]:
    parts = ((example.prompt, 0.0), (example.answer, 1.0), (example.tail, _TAIL))
    row = [(i, weight) for text, weight in parts if text for i in tokenizer(text)["input_ids"]]
    return [*row, (tokenizer.eos_token_id, 1.0)]


def _loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy (a scalar) of `ids` [B, T] by `weights` [B, T]; logits are computed only where they count."""
    import torch

    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    counted, wanted = weights[:, 1:], ids[:, 1:]
    some = counted > 0
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[some]), wanted[some], reduction="none")
    return (losses * counted[some]).sum() / counted.sum()


def _save_optimizer(out: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    import torch
    from safetensors.torch import save_file

    state: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        state[f"{name}.exp_avg_sq"] = optimizer.state[parameter]["exp_avg_sq"].contiguous()
        step = optimizer.state[parameter]["step"]
    save_file({**state, "step": torch.tensor(float(step))}, out / "optimizer.moments")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help=f"One of {', '.join(GENERATIONS)}.")] = FIRST.name,
    out: Annotated[Path | None, typer.Option(help="Folder to write; made if it is missing [default: the shipped one].")] = None,
    seed: Annotated[int, typer.Option(help="Seed of corpus and weights.")] = PretrainSettings.seed,
) -> None:
    """Pretrain the pocket model: tokenizer, weights and optimizer state, from one seed, on one core."""
    made = named_generation(generation)
    pretrain(out or made.weights, PretrainSettings(made, seed))


if __name__ == "__main__":
    run_app(app)
