"""Draws texts, programs and their differences as rich renderables, and prints them.

Guarantees:
- Untrusted text becomes a clean `Text`, never markup.
- A pipe gets no colours, 160 columns and no trailing spaces, so that equal logs give equal text.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from events.cli.app import typed_command
from events.process.console import RaisingConsole
from events.text.diff import DiffLine, diff_lines
from events.text.safe_text import clean, one_line
from events.text.secrets import mask

WIDTH = 160
"""Columns of output that goes into a pipe."""
LONGEST = 16_000
"""A program with more characters is not coloured."""
SHORT_DIFF = 12
"""A difference with more lines is shown only on request."""
_STYLES = {"-": ("red", "bold reverse red"), "+": ("green", "bold reverse green"), " ": ("dim", "dim")}


def print_drawn(renderable: RenderableType) -> None:
    """Print it to stdout."""
    console = RaisingConsole(highlight=False)
    if console.is_terminal:
        console.print(renderable, crop=False)
        return
    console = RaisingConsole(highlight=False, width=WIDTH)
    with console.capture() as captured:
        console.print(renderable, crop=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def plain_text(text: str, limit: int | None = None) -> Text:
    """Untrusted text, cut to one line of `limit` characters if that is given."""
    return Text(clean(text) if limit is None else one_line(text, limit))


def program_text(source: str) -> Text:
    """A program with its syntax coloured."""
    text = clean(source).rstrip("\n")
    if len(text) > LONGEST:
        return Text(text)
    from rich.syntax import Syntax

    coloured = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(text)
    coloured.rstrip()
    return coloured


def diff_text(old: str, new: str, *, most: int | None = SHORT_DIFF) -> Text | None:
    """Removed and added lines, with the number of equal lines between them.

    None where the texts are equal, or where more than `most` lines would be shown.
    """
    parts = list(_folded(diff_lines(old, new)))
    if all(isinstance(part, int) for part in parts) or (most is not None and len(parts) > most):
        return None
    drawn = Text()
    for part in parts:
        drawn.append("\n" if drawn else "")
        if isinstance(part, int):
            drawn.append(f"  … {part} lines as before", "dim")
        else:
            drawn.append_text(_line(part))
    return drawn


def _folded(lines: Iterable[DiffLine]) -> Iterable[DiffLine | int]:
    """Changed lines, and the number of equal lines between them; a single equal line stays."""
    equal: list[DiffLine] = []
    for line in [*lines, None]:
        if line is not None and line.mark == " ":
            equal.append(line)
            continue
        if equal:
            yield equal[0] if len(equal) == 1 else len(equal)
            equal = []
        if line is not None:
            yield line


def _line(line: DiffLine) -> Text:
    style, changed = _STYLES[line.mark]
    drawn = Text(f"{line.mark} {clean(line.text)}", style)
    for start, end in line.spans:
        drawn.stylize(changed, start + 2, end + 2)
    return drawn


def indented(renderable: RenderableType, by: int = 2) -> Padding:
    """The renderable, `by` columns further to the right."""
    return Padding.indent(renderable, by)


def heading(text: str) -> Text:
    """A title."""
    return Text(text, "bold")


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without rules; columns named in `right` are aligned to the right and never broken."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        rows.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return rows


def next_commands(where: str, commands: Sequence[tuple[str, str, str]]) -> Text:
    """Commands to type next (purpose, module, arguments behind the run), in lines that are never broken, to be copied."""
    run, wide = shlex.quote(mask(clean(where))), max((len(what) for what, _, _ in commands), default=0)
    lines = [
        Text.assemble((what.ljust(wide + 2), "dim"), f"{typed_command(module)} {run} {arguments}".rstrip())
        for what, module, arguments in commands
    ]
    drawn = Text("\n", no_wrap=True, overflow="ignore").join(lines)
    drawn.no_wrap, drawn.overflow = True, "ignore"
    return drawn
