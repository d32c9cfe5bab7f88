"""Interleaved rounds: everybody takes turns, so that whatever else the machine does hits all of them alike.

Law: a ratio is made of two rates of the same round, and what is shown is the median of all rounds with the lowest and the
highest. It knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


class Rates(NamedTuple):
    """One number a round, most often things a second."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.rounds)

    def over(self, other: Rates) -> Rates:
        """These by the others, round by round."""
        return Rates(tuple(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)))

    def show(self, digits: int = 0) -> str:
        """The median, and the range."""
        middle, low, high = (f"{value:,.{digits}f}".replace(",", " ") for value in (self.median, *self.range))
        return f"{middle} ({low}–{high})"

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return min(self.rounds), max(self.rounds)


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Rates]:
    """Let all take turns, so many rounds; whoever begins in one round is last in the next."""
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            found[name].append(contenders[name]())
    return {name: Rates(tuple(values)) for name, values in found.items()}


@dataclass(frozen=True)
class Claim:
    """Two rates, and what their ratio should be."""

    what: str
    ours: Rates
    other: str
    """Whom ours is compared with."""
    theirs: Rates
    least: float | None = None
    """The ratio of ours to theirs should be at least this; None if nothing was aimed at."""
    most: float | None = None
    """The ratio of theirs to ours, how many times slower we are, should be at most this."""

    @property
    def ratio(self) -> Rates:
        """Ours by theirs, or theirs by ours where slowness is aimed at."""
        return self.ours.over(self.theirs) if self.most is None else self.theirs.over(self.ours)

    @property
    def aim(self) -> str:
        """What was aimed at, and whether it was met."""
        if self.least is None and self.most is None:
            return "–"
        sign, bound = ("≥", self.least) if self.most is None else ("≤", self.most)
        met = self.ratio.median >= (self.least or 0) if self.most is None else self.ratio.median <= self.most
        return f"{sign} {bound:.2g}: {'met' if met else 'missed'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def claims_table(claims: Sequence[Claim]) -> list[str]:
    """Claims as a table."""
    rows = [[c.what, c.ours.show(), c.other, c.theirs.show(), f"**{c.ratio.show(2)}**", c.aim] for c in claims]
    return table(["a second", "ours", "against", "theirs", "ratio", "aim"], rows)
