"""Filters and functions of the templates.

Guarantees: untrusted text passes `clean` or `line`; Jinja escapes what comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from events.export.charts import Figure
from events.facts.digests import SHORT
from events.text.phrases import MISSING, number, words
from events.text.safe_text import clean, one_line
from events.web.rendering.draw_lineage import lineage_svg
from events.web.rendering.draw_tree import curriculum_svg, node_link, proposal_text, tree_key
from events.web.rendering.highlight_marks import mark_changes, mark_words, probability, token_span, visible
from events.web.rendering.highlight_python import highlight
from events.web.rendering.svg import figure_svg, history_bars

WIDTH: Final = 100
"""Characters of a line of JSON."""
DRAWINGS: Final = 256
"""Figures whose drawings are cached; some kB each."""
NUMBERS: Final = 120
"""Numbers in the table of a figure, about."""
FEWEST, MOST = 10, 40
"""Rows of that table."""


def figure(value: Any) -> str:
    """A number in four digits; integers whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING if value is None else str(value)
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(value, int) else f"{value:.4g}"


def share(value: float | None) -> str:
    """A share of 1 in percent, with a narrow space."""
    return MISSING if value is None else f"{100 * value:.0f}\N{NARROW NO-BREAK SPACE}%"


def short(digest: str | None) -> str:
    """The first digits of a digest or an id."""
    return MISSING if digest is None else digest[:SHORT]


def seconds(value: float | None) -> str:
    """A duration in its largest two units."""
    if value is None:
        return MISSING
    duration = timedelta(seconds=round(value))
    hours, rest = divmod(duration.seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(duration.days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    texts = [f"{count}\N{NARROW NO-BREAK SPACE}{unit}" for count, unit in parts if count]
    return " ".join(texts[:2]) or "0\N{NARROW NO-BREAK SPACE}s"


def ago(time: datetime | None) -> str:
    """Time since `time`, in its largest unit."""
    if time is None:
        return MISSING
    passed = max(0.0, (datetime.now(UTC) - time).total_seconds())
    return f"{seconds(passed).rpartition(' ')[0] or seconds(passed)} ago"


def day(time: datetime | None) -> str:
    """A time to the minute."""
    return MISSING if time is None else f"{time:%Y-%m-%d %H:%M}"


def pretty(value: Any, depth: int = 0) -> str:
    """Plain data as indented JSON in ASCII, short parts on one line."""
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
    """Rows of the table of a figure."""

    lines: list[tuple[float, list[float | None]]]
    """x, and the value of each series; the first and the last x are among them."""
    of: int
    """Rows before they were thinned out."""


def figure_rows(figure: Figure) -> FigureRows:
    """Rows of the table of a figure, thinned out where they are many."""
    columns = [dict(series.points) for series in figure.series]
    xs = sorted({x for column in columns for x in column})
    total = len(xs)
    most = min(MOST, max(FEWEST, NUMBERS // max(1, len(columns))))
    if total > most:
        xs = [xs[round(row * (total - 1) / (most - 1))] for row in range(most)]
    return FigureRows([(x, [column.get(x) for column in columns]) for x in xs], total)


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
    "mark_changes": mark_changes,
    "mark_words": mark_words,
    "token_span": token_span,
    "visible": visible,
    "probability": probability,
    "proposal_text": proposal_text,
    "node_link": node_link,
}
GLOBALS: Final[Mapping[str, Any]] = {
    "figure_svg": lru_cache(DRAWINGS)(figure_svg),
    "history_bars": history_bars,
    "curriculum_svg": curriculum_svg,
    "tree_key": tree_key,
    "figure_rows": figure_rows,
    "lineage_svg": lineage_svg,
}
