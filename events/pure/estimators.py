"""Estimators on counts: unbiased pass@k, and how sure it is.

Law: pure functions; equal counts give equal numbers. They look at no text and know no policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import comb, sqrt
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
"""How many of such intervals hold the true value."""
BOOTSTRAP_DRAWS: Final = 10_000
"""Resamples of a bootstrap."""
SEED: Final = 0
"""Of the resamples, so that equal counts have equal intervals."""


class ConfidenceInterval(NamedTuple):
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


def pass_at_k_interval(attempts: int, successes: Sequence[int], k: int, draws: int = BOOTSTRAP_DRAWS) -> ConfidenceInterval:
    """A confidence interval for `pass_at_k`: the percentile bootstrap over questions (Efron, 1979).

    Whole questions are drawn anew, so that the interval holds both for other questions of this kind and for other answers to
    them. Questions that are all estimated alike say nothing when drawn anew; then it is Wilson's score interval (1927) over
    questions, and for a single one over its answers: that of the share p of passed ones, taken through 1 - (1-p)^k.

    Args:
        attempts: as in `pass_at_k`.
        successes: as there.
        k: as there.
        draws: resamples; fewer are faster and move an edge by some hundredths of the interval.

    Raises:
        ValueError: as in `pass_at_k`.
    """
    import numpy as np

    mean = pass_at_k(attempts, successes, k)
    if len(successes) == 1:
        low, high = (1 - (1 - share) ** k for share in wilson_interval(successes[0] / attempts, attempts))
        return ConfidenceInterval(min(low, mean), max(high, mean))
    # Questions with equal estimates are one kind, so that a resample is a few numbers, however many questions there are.
    kinds = Counter(_estimate(attempts, count, k) for count in successes)
    if len(kinds) == 1:
        return wilson_interval(mean, len(successes))
    found = sorted(kinds)
    shares = [kinds[estimate] / len(successes) for estimate in found]
    drawn = np.random.default_rng(SEED).multinomial(len(successes), shares, size=draws)
    low, high = np.quantile(drawn @ np.array(found) / len(successes), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ConfidenceInterval(float(low), float(high))


def seed_mean_interval(scores: Sequence[Sequence[float]]) -> ConfidenceInterval:
    """A confidence interval for the mean of scores, a row a seed and a column a question: a hierarchical percentile bootstrap.

    Seeds are drawn anew, and questions are drawn anew, the same ones for all seeds, since all were examined on the same. A few
    seeds, drawn from themselves, vary less than new ones would: of three, by a third. Scores that are all alike say nothing
    when drawn anew; then it is Wilson's interval over questions.

    Raises:
        ValueError: there is no score, or rows differ in length.
    """
    table = _table(scores)
    if table.min() == table.max():
        return wilson_interval(float(table[0, 0]), table.shape[1])
    return _middle(_means(table, "these"))


def paired_difference_interval(these: Sequence[Sequence[float]], those: Sequence[Sequence[float]]) -> ConfidenceInterval:
    """The same for the mean of these scores minus the mean of those, to the same questions in the same order.

    Questions are drawn for both together, so that a hard draw is hard for both; the seeds of each are drawn for themselves.

    Raises:
        ValueError: there is no score, or not as many questions here as there.
    """
    ours, theirs = _table(these), _table(those)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"a paired difference needs the same questions; there are {ours.shape[1]} and {theirs.shape[1]}")
    return _middle(_means(ours, "these") - _means(theirs, "those"))


def wilson_interval(share: float, trials: int) -> ConfidenceInterval:
    """A confidence interval for a share of so many trials: Wilson's score interval (1927)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((middle + side) / (1 + z**2 / trials) for side in (-reach, reach))
    # It holds the share, and no less than 0 or more than 1, but for rounding.
    return ConfidenceInterval(max(0.0, min(share, low)), min(1.0, max(share, high)))


def _table(scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    import numpy as np

    if not scores or not scores[0] or len({len(row) for row in scores}) > 1:
        raise ValueError("a table of scores needs a seed, a question, and a score of each seed for each question")
    return np.asarray(scores, np.float64)


def _means(table: NDArray[np.float64], seeds: Literal["these", "those"]) -> NDArray[np.float64]:
    """The mean of each resample."""
    found: NDArray[np.float64] = ((_drawn(table.shape[0], seeds) @ table) * _drawn(table.shape[1], "questions")).sum(axis=1)
    return found


@lru_cache(maxsize=4)
def _drawn(count: int, what: Literal["questions", "these", "those"]) -> NDArray[np.float64]:
    """How often each of `count` things is in each resample of as many, as shares: `BOOTSTRAP_DRAWS` rows."""
    import numpy as np

    rng = np.random.default_rng([SEED, *what.encode()])
    places = rng.integers(count, size=(BOOTSTRAP_DRAWS, count)) + count * np.arange(BOOTSTRAP_DRAWS)[:, None]
    return np.bincount(places.ravel(), minlength=BOOTSTRAP_DRAWS * count).reshape(BOOTSTRAP_DRAWS, count) / count


def _middle(drawn: NDArray[np.float64]) -> ConfidenceInterval:
    import numpy as np

    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ConfidenceInterval(float(low), float(high))
