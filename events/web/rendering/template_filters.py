"""How templates write things: numbers, times, ids, and texts of others.

Law: what a model or the outside wrote passes `clean` or `line`; Jinja escapes whatever comes out. No filter judges content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from events.export.charts import Figure
from events.facts.digests import SHORT
from events.text.safe_text import clean, one_line
from events.web.rendering.draw_lineage import lineage_svg
from events.web.rendering.draw_tree import curriculum_svg, node_link, proposal_text, tree_key
from events.web.rendering.highlight_marks import mark_changes, mark_words, probability, token_span, visible
from events.web.rendering.highlight_python import highlight
from events.web.rendering.svg import figure_svg, sparkline

WIDTH: Final = 100
"""Characters of a line of JSON."""
DRAWINGS: Final = 256
"""Drawings that are kept for the next one who asks; some kB each."""
NUMBERS: Final = 120
"""About so many numbers does the table of a figure have ..."""
FEWEST, MOST = 10, 40
"""... in so many rows."""


def number(value: float | None, digits: int = 2) -> str:
    """With so many decimals, or a dash for nothing."""
    return "–" if value is None else f"{value:.{digits}f}"


def figure(value: Any) -> str:
    """A number of any size in a few digits; whole ones whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(value, int) else f"{value:.4g}"


def share(value: float | None) -> str:
    """A share of 1 in percent."""
    return "–" if value is None else f"{100 * value:.0f}\N{NARROW NO-BREAK SPACE}%"


def short(digest: str | None) -> str:
    """The first digits of an id."""
    return "–" if digest is None else digest[:SHORT]


def words(name: str) -> str:
    """A name of ours as words."""
    return name.replace("_", " ")


def seconds(value: float | None) -> str:
    """A duration in its largest two units."""
    if value is None:
        return "–"
    whole = timedelta(seconds=round(value))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(whole.days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    proposal_text = [f"{count}\N{NARROW NO-BREAK SPACE}{unit}" for count, unit in parts if count]
    return " ".join(proposal_text[:2]) or "0\N{NARROW NO-BREAK SPACE}s"


def ago(time: datetime | None) -> str:
    """How long ago something was, in its largest unit."""
    if time is None:
        return "–"
    passed = max(0.0, (datetime.now(UTC) - time).total_seconds())
    return f"{seconds(passed).rpartition(' ')[0] or seconds(passed)} ago"


def day(time: datetime | None) -> str:
    """A time as people in one time zone write it (UTC)."""
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"


def pretty(value: Any, depth: int = 0) -> str:
    """Plain data as JSON for people, what is short on one line; characters that could hide something stay escaped."""
    flat = json.dumps(value)
    if len(flat) + depth <= WIDTH:
        return flat
    match value:
        case dict():
            parts = [f"{json.dumps(name)}: {pretty(part, depth + 2)}" for name, part in value.items()]
        case list():
            parts = [pretty(part, depth + 2) for part in value]
        case _:
            return flat
    inside = ",\n".join(f"{' ' * (depth + 2)}{part}" for part in parts)
    return f"{flat[0]}\n{inside}\n{' ' * depth}{flat[-1]}"


class FigureRows(NamedTuple):
    """The numbers behind a figure."""

    lines: list[tuple[float, list[float | None]]]
    """At an x, a value a series; the first and the last are among them."""
    of: int
    """How many there are."""


def figure_rows(figure: Figure) -> FigureRows:
    """The numbers behind a figure, thinned out where they are many."""
    columns = [dict(series.points) for series in figure.series]
    places = sorted({x for column in columns for x in column})
    whole = len(places)
    most = min(MOST, max(FEWEST, NUMBERS // max(1, len(columns))))
    if whole > most:
        places = [places[round(at * (whole - 1) / (most - 1))] for at in range(most)]
    return FigureRows([(x, [column.get(x) for column in columns]) for x in places], whole)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "clean": clean,
    "line": one_line,
    "number": number,
    "figure": figure,
    "share": share,
    "short": short,
    "words": words,
    "seconds": seconds,
    "ago": ago,
    "day": day,
    "pretty": pretty,
    "highlight": highlight,
    "spans": mark_changes,
    "marked": mark_words,
    "token": token_span,
    "visible": visible,
    "probability": probability,
    "said": proposal_text,
    "node_link": node_link,
}
GLOBALS: Final[Mapping[str, Any]] = {
    "drawn": lru_cache(DRAWINGS)(figure_svg),
    "spark": sparkline,
    "tree": curriculum_svg,
    "tree_key": tree_key,
    "tabled": figure_rows,
    "lineage": lineage_svg,
}
