"""`verify`, `backup`, `repair`, `merge` and `migrate`: maintenance of logs. Exit code 1 if something is wrong."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from events import maintenance
from events.cli.app import locate_log, open_run
from events.cli.output import AsJson, LogName, Printer, print_json, print_note, progress
from events.facts.errors import BadInput
from events.facts.log import Corruption, Head
from events.stores import is_url, open_log
from events.stores.anomalies import lost_tail, missing_wal
from events.text.safe_text import markup
from events.text.secrets import mask

NewFile = Annotated[Path, typer.Argument(metavar="TARGET", help="A new file.")]


def verify(
    log: LogName,
    head: Annotated[str | None, typer.Option(help="Also compare with this head, e.g. one that was published.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every hash and every blob; name the first position that is wrong, and tell of what no hash covers.

    Exit code 1 if something is wrong or missing, or if there is nothing to verify.
    """
    location, remarks = locate_log(log), list[str]()
    lost = [loss] if isinstance(location, Path) and (loss := missing_wal(location)) else []
    with closing(open_run(log)) as opened, progress("verifying") as on_progress:
        broken, tip = opened.verify(on_progress, remarks.append), opened.head()
    if isinstance(location, Path) and (loss := lost_tail(location, tip.position)):
        lost.append(loss)
    other = broken is None and head is not None and head != tip.digest
    if as_json:
        result = {"sound": broken is None, "same": not other, **tip._asdict(), "broken": broken_json(broken)}
        print_json(result | {"lost": lost, "remarks": remarks})
    else:
        printer = Printer()
        printer.say(_verdict(tip, broken, other=other))
        for text in (*lost, *remarks):
            printer.say(markup(text))
        if broken is not None:
            command = f"gasp log {'migrate' if is_url(log) else 'repair'} {quote(mask(log))} NEW"
            print_note(f"restore a backup, or rescue what is sound before it: {command}")
    if broken is not None or other or lost or tip.position == 0 or any("trigger" in text for text in remarks):
        raise typer.Exit(1)


def _verdict(tip: Head, broken: Corruption | None, *, other: bool) -> str:
    """First line of `verify`, as markup."""
    if broken is not None:
        return f"[red]broken[/] at position {broken.position}: {markup(broken.problem)}"
    if other:
        return f"[red]another log[/]: it is sound, but its head is {tip.digest}"
    if tip.position == 0:
        return "[yellow]empty[/]: 0 events; if there were any, they were in a write-ahead file (-wal) that is not here"
    return f"[green]sound[/]: {tip.position} events, head {tip.digest}"


def backup(log: LogName, target: NewFile, as_json: AsJson = False) -> None:
    """Copy a log, which a run may be writing, into one new file, and verify the copy."""
    with progress("backing up") as on_progress:
        head = maintenance.backup(locate_log(log), target, on_progress)
    if as_json:
        print_json({"target": str(target), **head._asdict()})
    else:
        Printer().say(f"[green]backed up[/] into {markup(str(target))}: {head.position} events, head {head.digest}")


def repair(
    log: Annotated[str, typer.Argument(metavar="LOG", help="Directory of a run, or its log.sqlite.")],
    target: NewFile,
    dry_run: Annotated[bool, typer.Option("--dry-run/--no-dry-run", help="Only say what would be rescued.")] = True,
    as_json: AsJson = False,
) -> None:
    """Rescue the sound beginning of a damaged file into a new one. Exit code 1 if a dry run finds damage."""
    path = locate_log(log)
    if isinstance(path, str):
        raise BadInput("A database cannot be repaired, only a file; restore a backup, or migrate it as far as it is sound.")
    with progress("checking") as on_progress:
        report = maintenance.repair(path, target, dry_run=dry_run, on_progress=on_progress)
    if as_json:
        parts = report._asdict() | {"sound": report.sound._asdict(), "broken": broken_json(report.broken), "lost": report.lost}
        print_json(parts | {"target": str(report.target) if report.target else None})
    else:
        _print_repair(report)
    if report.broken is not None and dry_run:
        raise typer.Exit(1)


def _print_repair(report: maintenance.RepairReport) -> None:
    printer = Printer()
    if report.broken is None:
        printer.say(f"[green]sound[/]: {report.sound.position} events, nothing to repair")
        return
    lost = "how many are lost is unknown" if report.lost is None else f"{report.lost} are lost"
    printer.say(f"[red]broken[/] at position {report.broken.position}: {markup(report.broken.problem)}")
    printer.say(f"{report.sound.position} events are sound, up to head {report.sound.digest}; {lost}")
    if not report.keys:
        printer.say("the keys cannot be read: a repeated append will not be recognised")
    if report.target is None:
        printer.say("nothing was written; repeat with --no-dry-run to rescue them")
    else:
        printer.say(f"[green]rescued[/] into {markup(str(report.target))}")


def merge(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The other log; it stays as it is.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The log that grows; no other process may write it meanwhile.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be merged.")] = False,
    partly: Annotated[bool, typer.Option("--partly", help="Merge what has no conflict though something has.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge another log, stream by stream. Exit code 1 if there is a conflict, and then nothing is merged unless --partly."""
    with closing(open_run(source)) as theirs, closing(open_run(target)) as mine, progress("merging") as on_progress:
        report = maintenance.merge(theirs, mine, dry_run=dry_run, partly=partly, on_progress=on_progress)
        head = mine.head()
    if as_json:
        conflicts = [conflict._asdict() for conflict in report.conflicts]
        print_json(vars(report) | {"conflicts": conflicts, **head._asdict()})
    else:
        printer = Printer()
        for conflict in report.conflicts:
            where = f"{markup(conflict.stream)} from version {conflict.version} on"
            printer.say(f"[red]conflict[/] in {where}: {markup(conflict.problem)}")
        streams = f"{len(report.new)} new streams, {len(report.longer)} longer, {report.same} with nothing new"
        done = "[green]merged[/]" if report.merged else "to merge" if dry_run else "not merged"
        printer.say(f"{done}: {report.events} events, {streams}, {len(report.conflicts)} conflicts")
    if report.conflicts:
        raise typer.Exit(1)


def migrate(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The log that is copied; it stays as it is.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new place: a directory, a file, or a postgresql:// URL.")],
    as_json: AsJson = False,
) -> None:
    """Copy a log to another store with its hashes, and verify the copy. What was cut short goes on where it stopped."""
    with (
        closing(open_run(source)) as old,
        closing(open_log(locate_log(target, new=True), create=True)) as new,
        progress("migrating") as on_progress,
    ):
        copied = maintenance.migrate(old, new, on_progress)
    if as_json:
        print_json({"copied": copied.events, **copied.head._asdict()})
    else:
        position, digest = copied.head
        Printer().say(f"[green]migrated[/]: {copied.events} events copied, {position} there, head {digest}")


def broken_json(broken: Corruption | None) -> dict[str, object] | None:
    """The corruption as plain data."""
    return None if broken is None else broken._asdict()
