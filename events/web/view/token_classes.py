"""CSS classes of tokens, by probability or by advantage; a legend names every step, so that colour is never the only sign."""

from __future__ import annotations

from math import exp
from typing import Final, NamedTuple


class ColourStep(NamedTuple):
    """A step of a colour scale."""

    name: str
    """CSS class."""
    meaning: str


PROBABILITY_STEPS: Final = (
    ColourStep("p4", "probability 0.9 or more"),
    ColourStep("p3", "0.5 to 0.9"),
    ColourStep("p2", "0.2 to 0.5"),
    ColourStep("p1", "0.05 to 0.2"),
    ColourStep("p0", "below 0.05"),
)
"""From the most probable down."""
ADVANTAGE_STEPS: Final = (
    ColourStep("a5", "advantage 1 or more: made likelier"),
    ColourStep("a4", "0.1 to 1"),
    ColourStep("a3", "about 0: nothing learned"),
    ColourStep("a2", "-1 to -0.1"),
    ColourStep("a1", "below -1: made unlikelier"),
)
"""From the largest advantage down."""
_PROBABILITIES: Final = (0.9, 0.5, 0.2, 0.05)
_ADVANTAGES: Final = (1.0, 0.1, -0.1, -1.0)


def probability_step(logprob: float) -> ColourStep:
    """The step of a token's probability."""
    return PROBABILITY_STEPS[sum(exp(logprob) < bound for bound in _PROBABILITIES)]


def advantage_step(advantage: float) -> ColourStep:
    """The step of a completion's advantage, which all its tokens share."""
    return ADVANTAGE_STEPS[sum(advantage < bound for bound in _ADVANTAGES)]
