"""`stats`: how much is in a log.

Law: the store knows, nothing is read event by event. It says nothing about how a run went: see `events.trace`.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from events.cli.app import open_run
from events.cli.output import AsJson, LogName, Printer, print_json
from events.facts.digests import SHORT
from events.text.safe_text import markup


def stats(log: LogName, as_json: AsJson = False) -> None:
    """Count events by kind, streams, blobs, bytes, rollouts and tokens."""
    found = log_statistics(log)
    if as_json:
        print_json(found)
        return
    printer = Printer()
    printer.say(f"{found['events']} events, head {found['head'][:SHORT]}, {decimal(found['bytes'])}")
    if found["events"]:
        printer.say(f"from {found['first']} to {found['last']}")
    printer.say(f"{found['rollouts']} rollouts, {found['tokens']} tokens")
    blobs = found["blobs"]
    printer.say(f"{blobs['number']} blobs, {decimal(blobs['content'])}, compressed {decimal(blobs['stored'])}")
    for title in ("kinds", "streams"):
        if found[title]:
            printer.say("")
            printer.show(counts_table(title, found[title]))


def log_statistics(where: str) -> dict[str, Any]:
    """The figures."""
    with closing(open_run(where)) as log:
        (position, head), tally, blobs, size = log.stats()
        first, last = log.raw().row(1), log.raw().row(position)
    return {
        "events": position,
        "head": head,
        "first": first.time if first else None,
        "last": last.time if last else None,
        "bytes": size,
        "kinds": most_first(tally.kinds),
        "streams": most_first(tally.streams),
        "blobs": blobs._asdict(),
        "rollouts": tally.rollouts,
        "tokens": tally.tokens,
    }


def most_first(counted: dict[str, int]) -> dict[str, int]:
    """The largest number first."""
    return dict(sorted(counted.items(), key=lambda found: (-found[1], found[0])))


def counts_table(title: str, counted: dict[str, int]) -> Table:
    """Names and numbers."""
    shown = Table(title, "", box=None, pad_edge=False, header_style="bold")
    shown.columns[1].justify = "right"
    for name, number in counted.items():
        shown.add_row(markup(name, 60), str(number))
    return shown
