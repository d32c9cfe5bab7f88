"""`list`: the runs in a folder or in a database, a line each; where a log cannot be read, the line says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli.app import holds_log, open_run
from events.cli.output import AsJson, Printer, print_json
from events.facts.digests import SHORT
from events.facts.errors import BadInput, GaspError
from events.facts.log import find_run_started
from events.facts.streams import RUN
from events.stores import is_url, runs_in_database
from events.stores.raw import Store
from events.text.safe_text import markup


def list_runs(
    where: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A folder of runs, or a postgresql:// URL for all runs of its database.")
    ] = "runs",
    as_json: AsJson = False,
) -> None:
    """List runs: name, when it began, recipe, events, whether it is finished, head. Exit code 1 if one cannot be read."""
    logs = runs_in_database(where) if is_url(where) else runs_in_folder(Path(where))
    runs = [describe_run(name, opened) for name, opened in logs.items()]
    for run in runs if as_json else ():
        print_json(run)
    if runs and not as_json:
        Printer().show(runs_table(runs))
    if any("error" in run for run in runs):
        raise typer.Exit(1)


def runs_in_folder(folder: Path) -> dict[str, Callable[[], Store]]:
    """Functions that open the logs of the runs in a folder, or of a single run, by name; BadInput if there is no folder."""
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}; give the folder that holds the directories of your runs.")
    runs = [path for path in [folder, *sorted(folder.iterdir())] if holds_log(path)]
    return {path.absolute().name: partial(open_run, str(path)) for path in runs}


def describe_run(name: str, opened: Callable[[], Store]) -> dict[str, Any]:
    """A run as a row of the list."""
    try:
        with closing(opened()) as log:
            head, raw = log.head(), log.raw()
            started = find_run_started(log)
            first, last = raw.row(1), raw.row(raw.position_before_last(1, RUN, until=head.position) + 1)
    except GaspError as error:
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "began": first.time if first else None,
        "recipe": started.config.get("recipe") if started else None,
        "events": head.position,
        "finished": last is not None and last.kind == "run_finished",
        "head": head.digest,
    }


def runs_table(runs: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    shown = Table("name", "began", "recipe", "events", "finished", "head", box=None, pad_edge=False, header_style="bold")
    shown.columns[3].justify = "right"
    for run in runs:
        name = markup(run["name"], 40)
        if "error" in run:
            shown.add_row(name, f"[red]{markup(run['error'], 60)}[/]")
        else:
            began, recipe = (run["began"] or "–")[:19].replace("T", " "), markup(str(run["recipe"] or "–"), 20)
            finished = "yes" if run["finished"] else "no"
            shown.add_row(name, began, recipe, str(run["events"]), finished, run["head"][:SHORT])
    return shown
