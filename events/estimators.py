"""Estimators on counts: unbiased pass@k, and how sure it is.

Law: pure functions; equal counts give equal numbers. They look at no text and know no policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist, fmean
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.95
"""How many of such intervals hold the true value."""
DRAWS: Final = 10_000
"""Resamples of a bootstrap."""
SEED: Final = 0
"""Of the resamples, so that equal counts have equal intervals."""


class Interval(NamedTuple):
    """Where the true value is likely to be."""

    low: float
    high: float


def pass_at_k(attempts: int, successes: Sequence[int], k: int) -> float:
    """Mean over questions of 1 - C(n-c, k) / C(n, k), the unbiased estimator of Chen et al., arXiv 2107.03374.

    Args:
        attempts: n, answers a question.
        successes: c for each question.
        k: at most n.

    Raises:
        ValueError: k is larger than n, or there is no question.
    """
    if not 1 <= k <= attempts or not successes:
        raise ValueError(f"pass@{k} needs at least {k} attempts a question and one question; there are {attempts} attempts")
    return fmean(_estimate(attempts, count, k) for count in successes)


def _estimate(attempts: int, count: int, k: int) -> float:
    return 1 - comb(attempts - count, k) / comb(attempts, k)


def pass_at_k_interval(attempts: int, successes: Sequence[int], k: int) -> Interval:
    """A confidence interval for `pass_at_k`: the percentile bootstrap over questions (Efron, 1979).

    Whole questions are drawn anew, so that the interval holds both for other questions of this kind and for other answers to
    them. Questions that are all estimated alike say nothing when drawn anew; then it is Wilson's score interval (1927) over
    questions, and for a single one over its answers: that of the share p of passed ones, taken through 1 - (1-p)^k.

    Raises:
        ValueError: as in `pass_at_k`.
    """
    import numpy as np

    mean = pass_at_k(attempts, successes, k)
    if len(successes) == 1:
        low, high = (1 - (1 - share) ** k for share in _wilson(successes[0] / attempts, attempts))
        return Interval(min(low, mean), max(high, mean))
    # Questions with equal estimates are one kind, so that a resample is a few numbers, however many questions there are.
    kinds = Counter(_estimate(attempts, count, k) for count in successes)
    if len(kinds) == 1:
        return _wilson(mean, len(successes))
    found = sorted(kinds)
    shares = [kinds[estimate] / len(successes) for estimate in found]
    drawn = np.random.default_rng(SEED).multinomial(len(successes), shares, size=DRAWS)
    low, high = np.quantile(drawn @ np.array(found) / len(successes), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _wilson(share: float, trials: int) -> Interval:
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((middle + side) / (1 + z**2 / trials) for side in (-reach, reach))
    # It holds the share, and no less than 0 or more than 1, but for rounding.
    return Interval(max(0.0, min(share, low)), min(1.0, max(share, high)))
