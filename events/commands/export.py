"""`export`: writes the data of a run in the formats of other tools."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from events.cli.app import open_run, run_name
from events.cli.output import AsJson, LogName, Printer, print_json, progress
from events.export import FORMATS, check_empty, load_exporter
from events.text.safe_text import markup


def export(
    log: LogName,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="A new or empty folder; NAME-FORMAT here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the data of a run in a format of other tools: tables, a dataset, figures."""
    write, name = load_exporter(to), run_name(log)
    folder = out or Path(f"{name}-{to}")
    check_empty(folder)
    with closing(open_run(log)) as opened, progress(f"exporting to {to}"):
        written = write(opened, folder, name=name)
    if as_json:
        print_json({"format": to, "out": str(folder), "written": written})
    else:
        Printer().say(f"[green]exported[/] {markup(written)}")
