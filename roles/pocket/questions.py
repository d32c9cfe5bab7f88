"""Makes the shipped question files: `python -m roles.pocket.questions`.

Law: one seed, and for the goalposts the shipped weights, decide every file. Goalposts are deep questions of the target
region on which these weights have no success in 100 samples at temperature 1, judged in the sandbox. It trains nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from events.cli import run_app
from events.values import Question, Sampling
from events.weights import weights_digest
from roles.model import Model, Request
from roles.pocket import QUESTIONS, WEIGHTS
from roles.pocket.world import Split, generate
from roles.prompt import PROMPTS, Prompts
from roles.verifier import Verifier
from sandbox.runner import Runner

SAMPLES: Final = 100
"""Samples of the goalpost filter [GASP: pass@100 = 0]."""
_ANSWER: Final = Sampling(temperature=1.0, max_tokens=48)
_BATCH: Final = 25


def train(seed: int) -> list[Question]:
    """400 questions of all families with 0 to 3 rare operations."""
    return generate("train", 400, seed, rare=(0, 1, 1, 2, 2, 3))


def deep(split: Split, seed: int) -> list[Question]:
    """100 questions with 3 or 4 rare operations: half from the target region, half from the whole world."""
    near = generate(split, 50, seed, rare=(3, 4), families=("lists", "strings"), target=True)
    return near + generate(split, 50, seed, rare=(3, 4), known=near)


def candidates(seed: int, count: int) -> list[Question]:
    """Questions of the target region with 4 or 5 rare operations."""
    return generate("goalposts", count, seed, rare=(4, 5), families=("lists", "strings"), target=True)


async def unsolved(
    questions: Sequence[Question], model: Model, runner: Runner, *, seed: int, samples: int = SAMPLES
) -> list[Question]:
    """The questions without a success in so many samples."""
    prompts = Prompts(PROMPTS / "pocket")
    verifier = Verifier(runner, pairs=5, public_pairs=2, distinct=3)
    left: list[Question] = []
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        asked = [Request(prompts.induction(q).text, samples, seed + start + i, _ANSWER) for i, q in enumerate(batch)]
        for question, reply in zip(batch, await model.generate(asked), strict=True):
            verdicts, _ = await verifier.judge(question, "induction", None, [c.text for c in reply.completions])
            if not any(verdict.outcome == "passed" for verdict in verdicts):
                left.append(question)
        typer.echo(f"goalposts: {start + len(batch)} of {len(questions)} candidates tried, {len(left)} unsolved", err=True)
    return left


def write(path: Path, questions: Sequence[Question]) -> None:
    """One question a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(q.model_dump(mode="json")) + "\n" for q in questions))


async def _filter(seed: int, count: int, weights: Path) -> list[Question]:
    from roles.models.transformers import TransformersModel
    from sandbox.docker import DockerRunner

    model = TransformersModel(weights, weights_digest(weights))
    runner = DockerRunner()
    try:
        return await unsolved(candidates(seed, count), model, runner, seed=seed)
    finally:
        await runner.close()


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = QUESTIONS,
    weights: Annotated[Path, typer.Option(help="Weights that the goalposts must defeat.")] = WEIGHTS,
    seed: Annotated[int, typer.Option(help="Seed of all questions.")] = 0,
    pool: Annotated[int, typer.Option(min=1, help="Candidates for goalposts.")] = 320,
    goalposts: Annotated[int, typer.Option(min=1, help="Most goalposts to keep.")] = 100,
) -> None:
    """Write train, validation, test and goalpost questions. The goalposts need a Docker engine."""
    write(out / "train.jsonl", train(seed))
    write(out / "validation.jsonl", deep("validation", seed))
    write(out / "test.jsonl", deep("test", seed))
    write(out / "goalposts.jsonl", asyncio.run(_filter(seed, pool, weights))[:goalposts])


if __name__ == "__main__":
    run_app(app)
