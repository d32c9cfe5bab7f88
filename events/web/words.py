"""How templates write things: numbers, times, ids, and texts of others.

Law: what a model or the outside wrote passes `clean` or `line`; Jinja escapes whatever comes out. No filter judges content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from events.overview import SHORT
from events.safe_text import clean, one_line


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
    said = [f"{count}\N{NARROW NO-BREAK SPACE}{unit}" for count, unit in parts if count]
    return " ".join(said[:2]) or "0\N{NARROW NO-BREAK SPACE}s"


def ago(time: datetime | None) -> str:
    """How long ago something was, in its largest unit."""
    if time is None:
        return "–"
    passed = max(0.0, (datetime.now(UTC) - time).total_seconds())
    return f"{seconds(passed).rpartition(' ')[0] or seconds(passed)} ago"


def day(time: datetime | None) -> str:
    """A time as people in one time zone write it (UTC)."""
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"


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
}
GLOBALS: Final[Mapping[str, Any]] = {}
