"""Sudden shifts: completion lengths and acceptance rates that jump against the iterations before.

A shift is a reason to look, never a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from statistics import median
from typing import Final, NamedTuple, get_args

from events.facts.values import Role, Seat
from events.index.rows import SignEntry
from events.projections.figures import IterationFigures
from events.projections.run_summary import RunSummary

WINDOW: Final = 8
"""Earlier iterations that an iteration is compared with, at most."""
MIN_ITERATIONS: Final = 5
"""Earlier iterations that a comparison needs, at least."""
SUDDEN_DEVIATIONS: Final = 5.0
"""Robust standard deviations from which on a shift is sudden."""
STEADY_SHARE: Final = 0.05
"""Standard deviation of lengths, as a share of the mean, that is assumed at least."""
_NORMAL: Final = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""


class _FigureSeries(NamedTuple):
    """A figure of iterations, in order."""

    rule: str
    name: str
    values: list[tuple[IterationFigures, float, float]]
    """Iteration, value, and the standard deviation that chance alone gives the value, at least."""


def sudden_shifts(summary: RunSummary) -> list[SignEntry]:
    """Sudden shifts between an iteration and those before it, each where it begins, in order of positions."""
    played = [figures for figures in summary.iterations.values() if figures.ended is not None]
    signs = [sign for series in (*_lengths(played), *_acceptance(played)) for sign in _shifts(series)]
    return sorted(signs, key=lambda sign: sign.position)


def _lengths(played: Sequence[IterationFigures]) -> Iterator[_FigureSeries]:
    for role in get_args(Role):
        lengths = [(figures, figures.lengths[role]) for figures in played]
        values = [(figures, length.value, STEADY_SHARE * length.value) for figures, length in lengths if length.value]
        yield _FigureSeries("length_shift", f"the mean completion of the {role}, in tokens,", values)


def _acceptance(played: Sequence[IterationFigures]) -> Iterator[_FigureSeries]:
    for name in get_args(Seat):
        seats = [(figures, figures.seats[name]) for figures in played if name in figures.seats and figures.seats[name].proposed]
        # One more accepted and one more rejected (Laplace): no share is certain.
        likely = [(seat.accepted + 1) / (seat.proposed + 2) for _, seat in seats]
        chances = [sqrt(share * (1 - share) / seat.proposed) for share, (_, seat) in zip(likely, seats, strict=True)]
        values = [(at, seat.accepted / seat.proposed, chance) for (at, seat), chance in zip(seats, chances, strict=True)]
        yield _FigureSeries("acceptance_shift", f"the share of proposals of the {name} seat that were accepted", values)


def _shifts(series: _FigureSeries) -> Iterator[SignEntry]:
    shifted = False
    for index, (figures, value, chance) in enumerate(series.values):
        before = [usual for _, usual, _ in series.values[max(0, index - WINDOW) : index]]
        if len(before) < MIN_ITERATIONS:
            continue
        usual = median(before)
        spread = max(_NORMAL * median(abs(earlier - usual) for earlier in before), chance)
        deviations = abs(value - usual) / spread
        if deviations >= SUDDEN_DEVIATIONS and not shifted:
            evidence = f"{series.name} went from {usual:.3g} to {value:.3g}, {deviations:.0f} robust standard deviations"
            yield SignEntry(position=figures.position, rule=series.rule, evidence=evidence, iteration=figures.number)
        shifted = deviations >= SUDDEN_DEVIATIONS
