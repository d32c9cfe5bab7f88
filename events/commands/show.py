"""`show` and `tail`: events of a log, a page at a time, a line each."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import islice
from typing import Annotated

import typer

from events.cli.app import open_run
from events.cli.output import LARGEST, AsJson, LogName, Printer, print_json, print_note
from events.facts.errors import BadInput
from events.facts.follow import follow as followed
from events.facts.log import Event
from events.facts.upcast import FACT_TYPES
from events.reports.event_line import event_line

PAGE = 50
"""Events that `show` shows by default."""
LAST = 10
"""Events that `tail` shows by default."""

StreamName = Annotated[str | None, typer.Option(help="Of this stream only, e.g. run or episode/00001/000.")]
KindNames = Annotated[list[str] | None, typer.Option("--kind", help="Of this kind only, e.g. gap_measured; may be repeated.")]


def show(
    log: LogName,
    stream: StreamName = None,
    kind: KindNames = None,
    after: Annotated[int, typer.Option(help="Begin behind this position.", min=0, max=LARGEST)] = 0,
    limit: Annotated[int, typer.Option(help="So many at most; 0 shows all.", min=0, max=LARGEST)] = PAGE,
    as_json: AsJson = False,
) -> None:
    """Show a page of events, from the beginning or from behind a position."""
    kinds, position = check_kinds(kind), 0
    with closing(open_run(log)) as opened:
        events = opened.read(stream, after=after, kinds=kinds, limit=limit + 1 if limit else None)
        for event in print_events(islice(events, limit or None), as_json=as_json):
            position = event.position
        if position == 0:
            print_note("no such events")
        elif next(events, None) is not None:
            print_note(f"there are more: --after {position}")


def tail(
    log: LogName,
    count: Annotated[int, typer.Option("-n", help="So many.", min=0, max=LARGEST)] = LAST,
    stream: StreamName = None,
    kind: KindNames = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is appended, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last events, and those to come if asked."""
    kinds = check_kinds(kind)
    with closing(open_run(log)) as opened:
        after = opened.raw().position_before_last(count, stream, until=opened.head().position, kinds=kinds)
        events = followed(opened, stream, after=after, kinds=kinds, stop=lambda: not follow)
        for _ in print_events(events, as_json=as_json):
            if follow:
                sys.stdout.flush()


def check_kinds(kinds: Collection[str] | None) -> Collection[str] | None:
    """The kinds, None for all; BadInput if there is no such kind."""
    for kind in kinds or ():
        if kind not in FACT_TYPES:
            raise BadInput(f"There is no kind {kind!r}; the kinds are {', '.join(FACT_TYPES)}.")
    return kinds or None


def print_events(events: Iterator[Event], *, as_json: bool) -> Iterator[Event]:
    """Print events, each before it is yielded."""
    printer = Printer()
    for event in events:
        if as_json:
            print_json(event.plain_data())
        else:
            printer.line(event_line(event))
        yield event
