"""`python -m trainer`: the commands that learn from logs, each of which its own module starts as well."""

from __future__ import annotations

import typer

from events.cli.app import run_app
from trainer import evaluate, experiment, run
from trainer.commands.lineage import lineage
from trainer.warm_start import dpo, sft

app = typer.Typer(name="python -m trainer", help="Learn from logs.", no_args_is_help=True, add_completion=False)

app.command("run")(run.main)
app.command("evaluate")(evaluate.main)
app.command("experiment", help=experiment.HELP)(experiment.main)
for command in (lineage, sft, dpo):
    app.command()(command)


if __name__ == "__main__":
    run_app(app)
