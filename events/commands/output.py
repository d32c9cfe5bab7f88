"""How every command prints: lines for people, JSON for programs, notes and progress on stderr.

Law: no colour, no cut line and no progress bar goes anywhere but to a terminal. It knows no command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from events.log import Say, silent
from events.safe_text import one_line
from events.screen import Screen

LogName = Annotated[str, typer.Argument(metavar="LOG", help="Directory of a run, its log.sqlite, or a postgresql:// URL.")]
MOST = 2**62
"""A number that no position and no count reaches, and that a database can still add to."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Printer:
    """Prints to stdout."""

    def __init__(self) -> None:
        self._console = Screen(highlight=False)
        if not self._console.is_terminal:
            self._console = Screen(highlight=False, width=160)

    def line(self, text: str) -> None:
        """Print a line of markup, which only a window cuts."""
        shown = self._console.is_terminal
        self._console.print(text, no_wrap=True, crop=shown, overflow="ellipsis" if shown else "ignore", soft_wrap=not shown)

    def show(self, thing: RenderableType) -> None:
        """Print a table, which nobody's window limits in a pipe."""
        self._console.print(thing)

    def say(self, text: str) -> None:
        """Print a sentence of markup, as long as it is."""
        self._console.print(text, soft_wrap=True)


def say_json(data: Any) -> None:
    """Print one object on one line, in ASCII."""
    sys.stdout.write(f"{json.dumps(data)}\n")


def note(text: str) -> None:
    """Tell a person something that is no answer."""
    sys.stderr.write(f"{one_line(text)}\n")


@contextmanager
def progress(what: str) -> Iterator[Say]:
    """Show how far something is; gives what to tell that to."""
    console = Screen(stderr=True)
    if not console.is_terminal:
        # Rich ends even a bar that nobody sees with an empty line.
        yield silent
        return
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
