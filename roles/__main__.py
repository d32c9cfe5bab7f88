"""`python -m roles`: inspect prompts and question sets, judge recorded attempts again."""

from __future__ import annotations

import typer

from events.cli.app import run_app
from roles.commands.prompts import prompts_app
from roles.commands.questions import questions_app
from roles.commands.reverify import reverify

app = typer.Typer(
    name="python -m roles", help="Prompts, question sets, and recorded verdicts.", no_args_is_help=True, add_completion=False
)

app.add_typer(prompts_app)
app.add_typer(questions_app)
app.command()(reverify)


if __name__ == "__main__":
    run_app(app)
