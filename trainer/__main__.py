"""`python -m trainer`: the learner's commands."""

from __future__ import annotations

import typer

from events.cli import run_app
from trainer import evaluate, run
from trainer.commands import lineage

app = typer.Typer(name="python -m trainer", help="Learn from logs.", no_args_is_help=True, add_completion=False)

app.command("run")(run.main)
app.command("evaluate")(evaluate.main)
app.command()(lineage)


if __name__ == "__main__":
    run_app(app)
