"""Draws the lineage of weights as SVG: a lane a policy, a linked point an update, and a line from its parent.

The table of the same page has the same content in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup

from events.facts.digests import SHORT
from events.facts.values import Digest
from events.web.pages.policies import PolicyRow

LANE: Final = 44
"""Height of a lane."""
STEP: Final = 16
LEFT: Final = 72
"""Width of the lanes' names."""


def lineage_svg(lines: Sequence[PolicyRow], link: Callable[..., str]) -> Markup:
    """The drawing of rows, the latest first."""
    rows = list(reversed(lines))
    lanes = {name: number for number, name in enumerate(dict.fromkeys(line.policy for line in rows))}
    columns = {number: column for column, number in enumerate(dict.fromkeys(line.iteration for line in rows))}
    positions: dict[Digest, tuple[int, int]] = {}
    edges, points = [], []
    for line in rows:
        x, y = LEFT + 12 + STEP * columns[line.iteration], 20 + LANE * lanes[line.policy]
        if line.parent in positions:
            edges.append(_edge(positions[line.parent], (x, y)))
        positions[line.digest] = x, y
        points.append(_point(line, x, y, link("policies", line.digest)))
    names = [Markup('<text x="0" y="{}">{}</text>').format(24 + LANE * lane, name) for name, lane in lanes.items()]
    width, height = LEFT + 24 + STEP * max(1, len(columns)), LANE * max(1, len(lanes))
    return Markup(
        '<svg class="lineage" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="group" aria-label="{2}">{3}</svg>'
    ).format(width, height, f"Lineage of {len(lines)} policies", Markup("").join([*names, *edges, *points]))


def _edge(old: tuple[int, int], new: tuple[int, int]) -> Markup:
    (x, y), (u, v) = old, new
    middle = (x + u) / 2
    return Markup('<path d="M{} {}C{} {} {} {} {} {}"/>').format(x, y, middle, y, middle, v, u, v)


def _point(line: PolicyRow, x: int, y: int, address: str) -> Markup:
    words = f"{line.policy} {line.digest[:SHORT]}" + (f" after iteration {line.iteration}" if line.parent else ", at the start")
    words += f", serves {' and '.join(line.serving)}" if line.serving else ""
    kind = " ".join([*(["serving"] if line.serving else []), *(["evaluated"] if line.evaluations else [])])
    return Markup('<a href="{}"><circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle></a>').format(
        address, kind, x, y, 6 if line.serving else 4.5, words
    )
