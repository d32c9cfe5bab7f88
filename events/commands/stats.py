"""`stats`: how much is in a log, from the store's counters."""

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
    figures = log_statistics(log)
    if as_json:
        print_json(figures)
        return
    printer = Printer()
    printer.say(f"{figures['events']} events, head {figures['head'][:SHORT]}, {decimal(figures['bytes'])}")
    if figures["events"]:
        printer.say(f"from {figures['first']} to {figures['last']}")
    printer.say(f"{figures['rollouts']} rollouts, {figures['tokens']} tokens")
    blobs = figures["blobs"]
    printer.say(f"{blobs['number']} blobs, {decimal(blobs['content'])}, compressed {decimal(blobs['stored'])}")
    for title in ("kinds", "streams"):
        if figures[title]:
            printer.say("")
            printer.show(counts_table(title, figures[title]))


def log_statistics(where: str) -> dict[str, Any]:
    """The counts of a log as plain data."""
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
    """The counts, the largest first."""
    return dict(sorted(counted.items(), key=lambda count: (-count[1], count[0])))


def counts_table(title: str, counted: dict[str, int]) -> Table:
    """Counts by name, as a table."""
    shown = Table(title, "", box=None, pad_edge=False, header_style="bold")
    shown.columns[1].justify = "right"
    for name, number in counted.items():
        shown.add_row(markup(name, 60), str(number))
    return shown
