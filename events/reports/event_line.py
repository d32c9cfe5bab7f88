"""An event as one line of clean markup: position, time, stream, kind, and the fact's fields, long ones by their size."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from events.facts.digests import SHORT
from events.facts.fact import Fact
from events.facts.log import Event
from events.facts.values import Generation, Verdict
from events.text.safe_text import markup

MAX_TEXT = 60
"""Characters of a text that are shown."""
MAX_NUMBERS = 4
"""A list with more numbers is shown by its size."""

_HASH = re.compile(r"[0-9a-f]{16,64}")


def event_line(event: Event) -> str:
    """The line, as markup."""
    when = f"[dim]{event.time:%m-%d %H:%M:%S}[/]"
    where = f"[cyan]{markup(event.stream)}[/] {event.version}"
    return f"{event.position:>8}  {when}  {where}  [bold]{event.fact.kind}[/]  {markup(fact_summary(event.fact))}"


def fact_summary(fact: Fact) -> str:
    """The fact's recorded fields in a few words each; untrusted text stays in it."""
    fields = {name: (info, getattr(fact, name)) for name, info in type(fact).model_fields.items() if name != "kind"}
    recorded = {name: value for name, (info, value) in fields.items() if not (info.exclude_if and info.exclude_if(value))}
    return " ".join(f"{name}={text}" for name, value in recorded.items() if (text := short_value(value)))


def short_value(value: Any) -> str:
    """A value in a few words; empty for an empty value."""
    match value:
        case None | "" | () | []:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case str() if _HASH.fullmatch(value):
            return value[:SHORT]
        case str():
            return value if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"
        case Generation():
            return f"{value.count} by {value.policy[:SHORT]}, {value.length} tokens"
        case tuple() if isinstance(value[0], Verdict):
            outcomes = Counter(verdict.outcome for verdict in value).most_common()
            return ", ".join(f"{count} {outcome}" for outcome, count in outcomes)
        case tuple() if len(value) <= MAX_NUMBERS and all(isinstance(number, int | float) for number in value):
            return ", ".join(map(short_value, value))
        case tuple() | dict():
            return f"({len(value)})"
        case int():
            return str(value)
        case _:
            return "(…)"
