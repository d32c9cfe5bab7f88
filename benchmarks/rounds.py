"""Interleaved rounds: all contenders take turns, so that other load on the machine hits all of them alike.

A ratio is taken of two rates of the same round; shown is the median of all rounds with the lowest and the highest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


class Rates(NamedTuple):
    """One number a round, most often a rate a second."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Their median."""
        return median(self.rounds)

    def over(self, other: Rates) -> Rates:
        """Ratios to the others, round by round."""
        return Rates(tuple(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)))

    def show(self, digits: int = 0) -> str:
        """The median, and the range."""
        middle, low, high = (f"{value:,.{digits}f}".replace(",", " ") for value in (self.median, *self.range))
        return f"{middle} ({low}–{high})"

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return min(self.rounds), max(self.rounds)


def rate(count: int, work: Callable[[], object]) -> float:
    """Times a second that something is done, by the clock, where `work` does it `count` times."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Rates]:
    """Let all take turns; the first of one round is the last of the next."""
    names = list(contenders)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for offset in range(len(names)):
            name = names[(number + offset) % len(names)]
            rates[name].append(contenders[name]())
    return {name: Rates(tuple(values)) for name, values in rates.items()}


@dataclass(frozen=True)
class Claim:
    """Two rates, and the aim for their ratio."""

    what: str
    ours: Rates
    other: str
    """The contender that ours is compared with."""
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
