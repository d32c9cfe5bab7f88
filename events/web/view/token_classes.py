"""Classes for tokens: how likely each was, or whether the update made it likelier.

Law: pure; a class is a step of a scale of which the legend names every step, so that colour is never the only sign.
"""

from __future__ import annotations

from math import exp
from typing import Final, NamedTuple


class Step(NamedTuple):
    """A step of a scale."""

    name: str
    """The class."""
    meaning: str


LIKELY: Final = (
    Step("p4", "probability 0.9 or more"),
    Step("p3", "0.5 to 0.9"),
    Step("p2", "0.2 to 0.5"),
    Step("p1", "0.05 to 0.2"),
    Step("p0", "below 0.05"),
)
"""Steps of probability, the likeliest first."""
LEARNED: Final = (
    Step("a5", "advantage 1 or more: made likelier"),
    Step("a4", "0.1 to 1"),
    Step("a3", "about 0: nothing learned"),
    Step("a2", "-1 to -0.1"),
    Step("a1", "below -1: made unlikelier"),
)
"""Steps of the advantage."""
_PROBABILITIES: Final = (0.9, 0.5, 0.2, 0.05)
_ADVANTAGES: Final = (1.0, 0.1, -0.1, -1.0)


def likely(logprob: float) -> Step:
    """The step of a token's probability."""
    return LIKELY[sum(exp(logprob) < bound for bound in _PROBABILITIES)]


def learned(advantage: float) -> Step:
    """The step of a completion's advantage, which all its tokens share."""
    return LEARNED[sum(advantage < bound for bound in _ADVANTAGES)]
