"""Makes question files of the pocket world, which experiments evaluate on: `python -m benchmarks.regions`.

`rest`, and `validation` to choose settings by: held-out questions whose rare operations training questions have, too.
`target`: questions with rare operations that only goalposts are made of.
`hard`, and `hard-test`: long questions of the whole world, which the model seldom solves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from events.cli.app import run_app
from events.facts.values import Question
from roles.pocket.world import generate
from roles.questions.question_set import save_questions

COUNT: Final = 100
"""Questions of each file."""
app = typer.Typer(add_completion=False)


def files(seed: int = 0) -> dict[str, list[Question]]:
    """Questions by file; no two files but `rest` and `target` share a split, so that they share no structure either."""
    near, long = {"rare": (1, 2, 3)}, {"rare": (3, 4, 5)}
    return {
        "rest": generate("test", COUNT, seed, region="rest", **near),
        "validation": generate("validation", COUNT, seed, region="rest", **near),
        "target": generate("test", COUNT, seed, region="target", rare=(1, 2), families=("lists", "strings")),
        "hard": generate("goalposts", COUNT, seed, **long),
        "hard-test": generate("test", COUNT, seed, **long),
    }


@app.command()
def questions(out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/region-questions")) -> None:
    """Write the question files."""
    out.mkdir(parents=True, exist_ok=True)
    for name, listed in files().items():
        save_questions(out / f"{name}.jsonl", listed)


if __name__ == "__main__":
    run_app(app)
