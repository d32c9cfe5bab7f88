"""`prompts`: the prompt sets, and any prompt on a real question.

Law: statements are strangers' text, so all that is shown is made safe for a terminal. It asks no model.
"""

from __future__ import annotations

import typer

from events.commands.output import Printer
from events.safe_text import markup
from roles.prompt import NAMES, PROMPTS, Prompts

prompts_app = typer.Typer(name="prompts", help="Prompt sets: list them, render any prompt.", no_args_is_help=True)


@prompts_app.callback()
def _group() -> None:
    """Prompt sets: list them, render any prompt."""


@prompts_app.command("list")
def list_prompts() -> None:
    """List the shipped prompt sets."""
    printer = Printer()
    for folder in sorted(PROMPTS.iterdir()):
        Prompts(folder)
        printer.show(markup(f"{folder.name}: {', '.join(NAMES)}"))
