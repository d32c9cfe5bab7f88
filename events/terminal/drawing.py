"""How texts, programs and their differences are drawn in a terminal, and in a pipe.

Law: a text of others becomes a rich `Text` here, clean and never read as markup. Into a pipe go no colours, 160 columns, and no
spaces at the ends of lines, so that equal logs give equal text.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from events.cli.app import typed_command
from events.process.console import RaisingConsole
from events.text.diff import DiffLine, diff_lines
from events.text.safe_text import clean, one_line
from events.text.secrets import mask

WIDTH = 160
"""Columns where no window says how many there are."""
LONGEST = 16_000
"""Characters of a program that are coloured."""
SHORT_DIFF = 12
"""Lines that a difference may have to be shown unasked."""
_STYLES = {"-": ("red", "bold reverse red"), "+": ("green", "bold reverse green"), " ": ("dim", "dim")}


def print_drawn(thing: RenderableType) -> None:
    """Print it."""
    console = RaisingConsole(highlight=False)
    if console.is_terminal:
        console.print(thing, crop=False)
        return
    console = RaisingConsole(highlight=False, width=WIDTH)
    with console.capture() as captured:
        console.print(thing, crop=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def plain_text(text: str, limit: int | None = None) -> Text:
    """A text of others, on one line if it is cut."""
    return Text(clean(text) if limit is None else one_line(text, limit))


def program_text(source: str) -> Text:
    """A program, coloured."""
    text = clean(source).rstrip("\n")
    if len(text) > LONGEST:
        return Text(text)
    found = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(text)
    found.rstrip()
    return found


def diff_text(old: str, new: str, *, most: int | None = SHORT_DIFF) -> Text | None:
    """What changed between two texts: lines that went and came, and how many stayed between them.

    None where they are equal, or where more than `most` lines would be shown.
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
    """Changed lines, and the number of equal ones between them; a single one is itself."""
    waiting: list[DiffLine] = []
    for line in [*lines, None]:
        if line is not None and line.mark == " ":
            waiting.append(line)
            continue
        if waiting:
            yield waiting[0] if len(waiting) == 1 else len(waiting)
            waiting = []
        if line is not None:
            yield line


def _line(line: DiffLine) -> Text:
    style, changed = _STYLES[line.mark]
    drawn = Text(f"{line.mark} {clean(line.text)}", style)
    for start, end in line.spans:
        drawn.stylize(changed, start + 2, end + 2)
    return drawn


def indented(thing: RenderableType, by: int = 2) -> Padding:
    """The thing, further to the right."""
    return Padding.indent(thing, by)


def heading(text: str) -> Text:
    """The title of a part."""
    return Text(text, "bold")


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; these columns are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made


def next_commands(where: str, commands: Sequence[tuple[str, str, str]]) -> Text:
    """What to type next: what it is for, the module, and what follows the run. Lines that are to be copied are never broken."""
    run, wide = shlex.quote(mask(clean(where))), max((len(what) for what, _, _ in commands), default=0)
    lines = [
        Text.assemble((what.ljust(wide + 2), "dim"), f"{typed_command(module)} {run} {arguments}".rstrip())
        for what, module, arguments in commands
    ]
    drawn = Text("\n", no_wrap=True, overflow="ignore").join(lines)
    drawn.no_wrap, drawn.overflow = True, "ignore"
    return drawn
