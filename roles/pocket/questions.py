"""Makes the question files of the pocket world: `python -m roles.pocket.questions`.

One seed decides every file. Goalposts are chosen among the candidates by `python -m graph.goalposts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from events.cli.app import run_app
from events.facts.values import Question
from roles.pocket.generation import FIRST, GENERATIONS, Generation, named_generation
from roles.pocket.world import Split, generate
from roles.questions.question_set import save_questions


def train(seed: int) -> list[Question]:
    """400 questions of all families with 0 to 3 rare operations, none from the target region."""
    return generate("train", 400, seed, rare=(0, 1, 1, 2, 2, 3), region="rest")


def deep(split: Split, seed: int, count: int) -> list[Question]:
    """Questions with 3 or 4 rare operations, in turn one from the target region and one from the whole world."""
    near = generate(split, count // 2, seed, rare=(3, 4), families=("lists", "strings"), region="target")
    anywhere = generate(split, count // 2, seed, rare=(3, 4), known=near)
    return [question for both in zip(near, anywhere, strict=True) for question in both]


def candidates(seed: int, count: int, generation: Generation = FIRST) -> list[Question]:
    """Questions of the target region, with the numbers of rare operations that goalposts of the generation have, in turn."""
    return generate("goalposts", count, seed, rare=generation.goalposts, families=("lists", "strings"), region="target")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help=f"One of {', '.join(GENERATIONS)}.")] = FIRST.name,
    out: Annotated[Path | None, typer.Option(help="Folder to write [default: the shipped one].")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all questions.")] = 0,
    pool: Annotated[int, typer.Option(min=1, help="Candidates for goalposts.")] = 200,
) -> None:
    """Write train, validation and test questions, which all generations share, and candidates for goalposts."""
    made = named_generation(generation)
    out = out or made.questions
    out.mkdir(parents=True, exist_ok=True)
    if made is FIRST:
        save_questions(out / "train.jsonl", train(seed))
        save_questions(out / "validation.jsonl", deep("validation", seed, 100))
        save_questions(out / "test.jsonl", deep("test", seed, 200))
    save_questions(out / "candidates.jsonl", candidates(seed, pool, made))


if __name__ == "__main__":
    run_app(app)
