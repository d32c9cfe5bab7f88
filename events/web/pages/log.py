"""The events of a log: a list, and one event by its position. Settings are shown without their secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from events.facts.errors import BadInput
from events.facts.log import Event, event_at
from events.facts.types import AttemptsMade, QuestionProposed, RunStarted
from events.facts.upcast import FACT_TYPES
from events.reports.event_line import fact_summary
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest
from events.web.view.settings import without_secrets

ROWS: Final = 100
"""Events on a page."""


class EventRow(NamedTuple):
    """An event in the list."""

    position: int
    stream: str
    version: int
    kind: str
    time: datetime
    summary: str


def page(request: PageRequest) -> Page:
    """Make the list; without a position, a kind or a stream it shows the latest events."""
    kinds, stream = [kind for kind in request.query.getlist("kind") if kind], request.query.get("stream") or None
    for kind in kinds:
        if kind not in FACT_TYPES:
            raise BadInput(f"There is no kind {kind[:40]!r} of events; the kinds are {', '.join(FACT_TYPES)}.")
    head = request.run.head
    start = 0 if kinds or stream else max(0, head - ROWS)
    after = request.integer("after", start) or 0
    events = list(request.run.log.read(stream, after=after, kinds=kinds or None, limit=ROWS + 1))
    model = {
        "events": [_line(event) for event in events[:ROWS]],
        "after": after,
        "next": events[ROWS - 1].position if len(events) > ROWS else None,
        "head": head,
        "stream": stream,
        "kinds": kinds,
        "known_kinds": list(FACT_TYPES),
        "rows": ROWS,
    }
    return Page("events.html", "Events", model)


def _line(event: Event) -> EventRow:
    text = "" if isinstance(event.fact, RunStarted) else fact_summary(event.fact)
    return EventRow(event.position, event.stream, event.version, event.fact.kind, event.time, text)


def event_page(request: PageRequest) -> Page:
    """Make the page of one event."""
    position = int(request.params["position"])
    event = event_at(request.run.log, position) if position <= request.run.head else None
    if event is None:
        raise NotFound(f"There is no event at position {position}; the log ends at {request.run.head}.")
    fact: dict[str, Any] = event.fact.model_dump(mode="json")
    if isinstance(event.fact, RunStarted):
        fact = fact | {"config": without_secrets(fact["config"])}
    cause = f"{event.stream}, version {event.causation}" if event.causation is not None else None
    model = {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "kind": event.fact.kind,
        "schema": event.fact.SCHEMA,
        "time": event.time,
        "causation": cause,
        "hash": event.hash,
        "prev_hash": event.prev_hash,
        "head": event.head,
        "observed": without_secrets(event.observed),
        "fact": fact,
        "generation": _of(event),
        "question": getattr(event.fact, "question", None),
        "last": request.run.head,
    }
    return Page("event.html", f"Event {position}", model)


def _of(event: Event) -> int | None:
    """Version, in the event's stream, of the completions that the event is about."""
    if isinstance(event.fact, AttemptsMade | QuestionProposed):
        return event.version
    of = getattr(event.fact, "of", None)
    return of if isinstance(of, int) else None
