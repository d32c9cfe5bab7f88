"""`stats`: how much is in a log.

Law: the store counts, nothing is read event by event. It says nothing about how a run went: see `events.trace`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from events.cli import open_any
from events.commands.output import AsJson, LogName, Printer, say_json
from events.overview import SHORT
from events.safe_text import markup


def stats(log: LogName, as_json: AsJson = False) -> None:
    """Count events by kind, streams, blobs, bytes, rollouts and tokens."""
    found = count(log)
    if as_json:
        say_json(found)
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
            printer.show(table(title, found[title]))


def count(where: str) -> dict[str, Any]:
    """The figures."""
    # A connection counts on one core, so half of the figures have a connection and a thread of their own.
    with closing(open_any(where)) as log, closing(open_any(where)) as second, ThreadPoolExecutor(1) as pool:
        head, raw, figures = log.head(), log.raw(), log.figures(until=log.head().position)
        others = second.figures(until=head.position)
        generated, streams = pool.submit(others.generated), pool.submit(others.streams)
        first, last = raw.row(1), raw.row(head.position)
        return {
            "events": head.position,
            "head": head.digest,
            "first": first.time if first else None,
            "last": last.time if last else None,
            "bytes": figures.size(),
            "kinds": figures.kinds(),
            "streams": streams.result(),
            "blobs": figures.blobs()._asdict(),
            **generated.result()._asdict(),
        }


def table(title: str, counted: dict[str, int]) -> Table:
    """Names and numbers."""
    shown = Table(title, "", box=None, pad_edge=False, header_style="bold")
    shown.columns[1].justify = "right"
    for name, number in counted.items():
        shown.add_row(markup(name, 60), str(number))
    return shown
