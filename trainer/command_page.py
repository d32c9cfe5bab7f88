"""The tables of docs/commands.md, made from the commands: `python -m trainer.command_page docs/commands.md` writes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from events.reports.documents import replace_generated
from trainer.gasp import GROUPS, application


def tables() -> str:
    """Every command, a Markdown table a group: how it is called, what it does, its options."""
    lines: list[str] = []
    for title, commands in GROUPS.items():
        lines += [f"## {title}", "", "| command | what it does | options |", "|---|---|---|"]
        for entry in commands:
            lines += _rows(get_command(application(entry)), f"gasp {entry.name}", entry.summary)
        lines.append("")
    return "\n".join(lines).rstrip()


def _rows(command: Any, call: str, summary: str) -> Iterator[str]:
    """The command's row, or one for each of its subcommands."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _rows(inner, f"{call} {name}", (inner.help or "").split("\n\n")[0])
        return
    context = command.make_context(call, [], resilient_parsing=True)
    arguments = [_plain(piece) for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    options = [
        f"`{param.opts[0]}`"
        for param in command.params
        if param.opts[0].startswith("-") and not getattr(param, "hidden", False)
    ]
    cells = (f"`{' '.join([call, *arguments])}`", " ".join(summary.split()), " ".join(options))
    yield "".join(f"| {cell} " for cell in cells) + "|"


def _plain(piece: str) -> str:
    """An argument as manuals write it: `RUN`, `[QUESTION]`, `RUN...`."""
    name = piece.strip("[]{}.").upper() if piece.islower() else re.sub(r"[][{}]|[.]{3}", "", piece)
    more = "..." if "..." in piece else ""
    shown = f"{name}{more}".replace("|", "\\|")
    return f"[{shown}]" if piece.startswith("[") else shown


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(replace_generated(document.read_text(), "commands", tables()))
