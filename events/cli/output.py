"""How commands print: lines for people, JSON for programs, notes and progress on stderr.

Guarantees: colours, cut lines and progress bars appear in a terminal only.
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
"""Limit of numbers in options: beyond every position and count, but a database can still add to it."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Printer:
    """Prints to stdout."""

    def __init__(self) -> None:
        self._console = RaisingConsole(highlight=False)
        if not self._console.is_terminal:
            self._console = RaisingConsole(highlight=False, width=160)

    def line(self, text: str) -> None:
        """Print a line of markup; a terminal cuts it at its width."""
        shown = self._console.is_terminal
        self._console.print(text, no_wrap=True, crop=shown, overflow="ellipsis" if shown else "ignore", soft_wrap=not shown)

    def show(self, renderable: RenderableType) -> None:
        """Print a renderable; 160 columns wide in a pipe."""
        self._console.print(renderable)

    def say(self, text: str) -> None:
        """Print markup without breaking its lines."""
        self._console.print(text, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print a value on one line, in ASCII."""
    sys.stdout.write(f"{json.dumps(data)}\n")


def print_note(text: str) -> None:
    """Print a remark on stderr."""
    sys.stderr.write(f"{one_line(text)}\n")


@contextmanager
def show_activity(activity: Activity | None = None, console: Console | None = None) -> Iterator[Activity]:
    """Show an activity, by default a new one on standard error: live in a terminal, elsewhere as a line every ten seconds."""
    activity, console = activity or Activity(), console or detachable_console(stderr=True)

    def print_line(line: str) -> None:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        with report_activity(activity, print_line):
            yield activity
        return

    def shown() -> RenderableType:
        task, line = activity.first, Text(one_line(str(activity)), no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=task.total, completed=task.done, width=60) if task and task.total > 1 else ""
        return Group(line, bar, *(Text(f"warning: {one_line(warning)}", style="yellow") for warning in activity.warnings[-3:]))

    try:
        with Live(get_renderable=shown, console=console, transient=True):
            yield activity
    finally:
        for warning in activity.warnings:
            print_line(f"warning: {warning}")


@contextmanager
def progress(what: str) -> Iterator[ActivityTask]:
    """Show the progress of one task, which is yielded as a progress callback."""
    activity = Activity()
    with activity.task(what) as task, show_activity(activity):
        yield task
