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
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from events.process.activity import Activity, ActivityTask, report_activity
from events.process.console import RaisingConsole, detachable_console
from events.text.safe_text import one_line

LogName = Annotated[str, typer.Argument(metavar="LOG", help="Directory of a run, its log.sqlite, or a postgresql:// URL.")]
LARGEST = 2**62
"""A number that no position and no count reaches, and that a database can still add to."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Printer:
    """Prints to stdout."""

    def __init__(self) -> None:
        self._console = RaisingConsole(highlight=False)
        if not self._console.is_terminal:
            self._console = RaisingConsole(highlight=False, width=160)

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


def print_json(data: Any) -> None:
    """Print one object on one line, in ASCII."""
    sys.stdout.write(f"{json.dumps(data)}\n")


def print_note(text: str) -> None:
    """Tell a person something that is no answer."""
    sys.stderr.write(f"{one_line(text)}\n")


@contextmanager
def show_activity(activity: Activity | None = None, console: Console | None = None) -> Iterator[Activity]:
    """Show what is going on: live on a terminal, else by a line every ten seconds; gives where to say it.

    Args:
        activity: what is shown; by default a new one.
        console: where; by default that of standard error.
    """
    activity, console = activity or Activity(), console or detachable_console(stderr=True)

    def tell(line: str) -> None:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        with report_activity(activity, tell):
            yield activity
        return

    def shown() -> RenderableType:
        task, line = activity.first, Text(one_line(str(activity)), no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=task.total, completed=task.done, width=60) if task and task.total > 1 else ""
        return Group(line, bar, *(Text(f"warning: {one_line(said)}", style="yellow") for said in activity.warnings[-3:]))

    try:
        with Live(get_renderable=shown, console=console, transient=True):
            yield activity
    finally:
        for said in activity.warnings:
            tell(f"warning: {said}")


@contextmanager
def progress(what: str) -> Iterator[ActivityTask]:
    """Show how far one thing is; gives what to tell that to."""
    activity = Activity()
    with activity.task(what) as task, show_activity(activity):
        yield task
