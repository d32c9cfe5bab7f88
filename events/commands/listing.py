"""`list`: the runs in a folder or in a database, a line each.

Law: a run whose log cannot be read has a line as well, which says why. It verifies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli import LOG_NAME
from events.commands.output import AsJson, Printer, say_json
from events.errors import BadInput, GaspError
from events.overview import SHORT
from events.safe_text import markup
from events.stores import is_url, open_log
from events.stores.raw import Store
from events.types import RunStarted


def list_runs(
    where: Annotated[
        str, typer.Argument(metavar="[FOLDER]", help="A folder of runs, or a postgresql:// URL for all runs of its database.")
    ] = "runs",
    as_json: AsJson = False,
) -> None:
    """List runs: name, when it began, recipe, events, whether it is finished, head. Exit code 1 if one cannot be read."""
    runs = [described(name, opener) for name, opener in (in_database(where) if is_url(where) else in_folder(Path(where)))]
    for run in runs if as_json else ():
        say_json(run)
    if runs and not as_json:
        Printer().show(table(runs))
    if any("error" in run for run in runs):
        raise typer.Exit(1)


def in_folder(folder: Path) -> Iterator[tuple[str, Callable[[], Store]]]:
    """The runs of a folder, or the folder if it is a run; by name, with what opens them.

    Raises:
        BadInput: there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}; give the folder that holds the directories of your runs")
    for path in [folder, *sorted(folder.iterdir())]:
        if (path / LOG_NAME).is_file():
            yield path.name or str(path), lambda path=path: open_log(path / LOG_NAME)  # type: ignore[misc]  # bound now


def in_database(url: str) -> Iterator[tuple[str, Callable[[], Store]]]:
    """The runs of a database by name, with what opens them."""
    from events.stores.postgres import PostgresLog
    from events.stores.postgres_place import Place

    for place in Place.parse(url).others():
        yield place.run, lambda place=place: PostgresLog(place)  # type: ignore[misc]  # bound now


def described(name: str, opener: Callable[[], Store]) -> dict[str, Any]:
    """What the list says of a run."""
    try:
        with closing(opener()) as log:
            head, raw = log.head(), log.raw()
            started = next(log.read("run", kinds=("run_started",), limit=1), None)
            first, last = raw.row(1), raw.row(raw.before_last(1, "run", until=head.position) + 1)
    except GaspError as error:
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "began": first.time if first else None,
        "recipe": started.fact.config.get("recipe") if started and isinstance(started.fact, RunStarted) else None,
        "events": head.position,
        "finished": last is not None and last.kind == "run_finished",
        "head": head.digest,
    }


def table(runs: list[dict[str, Any]]) -> Table:
    """The list for people."""
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
