"""`python -m roles`: look at what the roles are given."""

from __future__ import annotations

import typer

from events.cli import run_app
from roles.commands.prompts import prompts_app
from roles.commands.questions import questions_app

app = typer.Typer(name="python -m roles", help="What the roles are given.", no_args_is_help=True, add_completion=False)

app.add_typer(prompts_app)
app.add_typer(questions_app)


if __name__ == "__main__":
    run_app(app)
