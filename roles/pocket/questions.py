"""Makes the question files of the pocket world: `python -m roles.pocket.questions`.

One seed decides every file. Goalposts are chosen among the candidates by `python -m graph.goalposts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from events.cli.app import run_app
from events.facts.values import Question
from roles.pocket import QUESTIONS
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


def candidates(seed: int, count: int) -> list[Question]:
    """Questions with all 8 rare operations that their family has in the target region."""
    return generate("goalposts", count, seed, rare=(8,), families=("lists", "strings"), region="target")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = QUESTIONS,
    seed: Annotated[int, typer.Option(help="Seed of all questions.")] = 0,
    pool: Annotated[int, typer.Option(min=1, help="Candidates for goalposts.")] = 200,
) -> None:
    """Write train, validation and test questions, and candidates for goalposts."""
    out.mkdir(parents=True, exist_ok=True)
    save_questions(out / "train.jsonl", train(seed))
    save_questions(out / "validation.jsonl", deep("validation", seed, 100))
    save_questions(out / "test.jsonl", deep("test", seed, 200))
    save_questions(out / "candidates.jsonl", candidates(seed, pool))


if __name__ == "__main__":
    run_app(app)
