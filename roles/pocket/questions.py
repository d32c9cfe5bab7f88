"""Makes the question files of the pocket world: `python -m roles.pocket.questions`.

One seed decides every file. Goalposts are chosen among the candidates by `python -m graph.goalposts`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer

from events.cli.app import run_app
from events.facts.values import Question
from roles.pocket.generation import FIRST, GENERATIONS, PocketGeneration, named_generation
from roles.pocket.world import Split, annotated, generate, read_statement
from roles.questions.question_set import save_questions


def train(seed: int) -> list[Question]:
    """400 questions of all families with 0 to 3 rare operations, none from the target region."""
    return generate("train", 400, seed, rare=(0, 1, 1, 2, 2, 3), region="rest")


def deep(split: Split, seed: int, count: int) -> list[Question]:
    """Questions with 3 or 4 rare operations, in turn one from the target region and one from the whole world."""
    near = generate(split, count // 2, seed, rare=(3, 4), families=("lists", "strings"), region="target")
    anywhere = generate(split, count // 2, seed, rare=(3, 4), known=near)
    return [question for both in zip(near, anywhere, strict=True) for question in both]


def candidates(seed: int, count: int, generation: PocketGeneration = FIRST) -> list[Question]:
    """Questions of the target region, with the numbers of rare operations that goalposts of the generation have, in turn."""
    return generate("goalposts", count, seed, rare=generation.goalposts, families=("lists", "strings"), region="target")


def documents(seed: int, count: int, *, partial: bool = False) -> list[Question]:
    """Annotated programs of 4 to 6 target operations as documents; in partial ones the code of one operation is left out."""
    rng = random.Random(f"documents:{seed}")  # noqa: S311 - reproducible documents, not secrets
    made: list[Question] = []
    for asked in generate("train", count, seed, rare=(4, 5, 6), families=("lists", "strings"), region="target"):
        steps = read_statement(asked.statement)
        assert steps is not None
        lines = annotated(steps).split("\n")
        if partial:
            del lines[1 + 2 * rng.choice([number for number, step in enumerate(steps) if step.operation.rare])]
        made.append(asked.model_copy(update={"statement": "\n".join(lines), "program": None}))
    return made


app = typer.Typer(add_completion=False)


@app.command()
def main(
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help=f"One of {', '.join(GENERATIONS)}.")] = FIRST.name,
    out: Annotated[Path | None, typer.Option(help="Folder to write [default: the shipped one].")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all questions.")] = 0,
    pool: Annotated[int, typer.Option(min=1, help="Candidates for goalposts.")] = 200,
) -> None:
    """Write training, validation and test questions and documents, which generations share, and candidates for goalposts."""
    made = named_generation(generation)
    out = out or made.questions
    out.mkdir(parents=True, exist_ok=True)
    if made is FIRST:
        save_questions(out / "train.jsonl", train(seed))
        save_questions(out / "validation.jsonl", deep("validation", seed, 100))
        save_questions(out / "test.jsonl", deep("test", seed, 200))
        save_questions(out / "documents.jsonl", documents(seed, 24))
        save_questions(out / "partial.jsonl", documents(seed, 24, partial=True))
    save_questions(out / "candidates.jsonl", candidates(seed, pool, made))


if __name__ == "__main__":
    run_app(app)
