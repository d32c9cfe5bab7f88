"""Estimators on counts: unbiased pass@k, and confidence intervals.

Guarantees: equal counts give equal numbers; resamples have a fixed seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import comb, cos, pi, sin, sqrt, tan
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
"""Share of such intervals that hold the true value."""
BOOTSTRAP_DRAWS: Final = 10_000
"""Resamples of a bootstrap."""
SEED: Final = 0
"""Seed of the resamples."""


class ConfidenceInterval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float


def pass_at_k(attempts: int, successes: Sequence[int], k: int) -> float:
    """Mean over questions of 1 - C(n-c, k) / C(n, k), the unbiased estimator of Chen et al., arXiv 2107.03374.

    Args:
        attempts: n, attempts a question.
        successes: c of each question.
        k: 1 to n.

    Raises:
        ValueError: k is larger than n, or there is no question.
    """
    if not 1 <= k <= attempts or not successes:
        raise ValueError(f"pass@{k} needs at least {k} attempts a question and one question; there are {attempts} attempts.")
    return fmean(_estimate(attempts, count, k) for count in successes)


def _estimate(attempts: int, count: int, k: int) -> float:
    return 1 - comb(attempts - count, k) / comb(attempts, k)


def pass_at_k_interval(attempts: int, successes: Sequence[int], k: int, draws: int = BOOTSTRAP_DRAWS) -> ConfidenceInterval:
    """A confidence interval for `pass_at_k`: the percentile bootstrap over questions (Efron, 1979).

    Whole questions are resampled, so that the interval covers both other questions of this kind and other attempts at them.
    Where all questions have the same estimate, resampling says nothing: then it is Wilson's score interval (1927) over
    questions, and for a single question over its attempts: that of the share p of passed ones, mapped by 1 - (1-p)^k.
    Fewer `draws` are faster and move a bound by some hundredths of the interval.

    Raises:
        ValueError: as in `pass_at_k`.
    """
    import numpy as np

    mean = pass_at_k(attempts, successes, k)
    if len(successes) == 1:
        low, high = (1 - (1 - share) ** k for share in wilson_interval(successes[0] / attempts, attempts))
        return ConfidenceInterval(min(low, mean), max(high, mean))
    # Questions with equal estimates are counted together, so that a resample is a few numbers only.
    counts = Counter(_estimate(attempts, count, k) for count in successes)
    if len(counts) == 1:
        return wilson_interval(mean, len(successes))
    estimates = sorted(counts)
    shares = [counts[estimate] / len(successes) for estimate in estimates]
    drawn = np.random.default_rng(SEED).multinomial(len(successes), shares, size=draws)
    return _middle(drawn @ np.array(estimates) / len(successes))


def seed_mean_interval(scores: Sequence[Sequence[float]]) -> ConfidenceInterval:
    """A confidence interval for the mean of scores [seeds, questions]: a hierarchical percentile bootstrap.

    Seeds are resampled, and questions are, the same ones for all seeds, since all were evaluated on the same. A few seeds vary
    less when resampled than new ones would: three seeds by a third. Where all scores are equal it is Wilson's interval over
    questions.

    Raises:
        ValueError: there is no score, or rows differ in length.
    """
    table = _table(scores)
    if table.min() == table.max():
        return wilson_interval(float(table[0, 0]), table.shape[1])
    return _middle(_means(table, "these"))


def paired_difference_interval(these: Sequence[Sequence[float]], those: Sequence[Sequence[float]]) -> ConfidenceInterval:
    """The same for the mean of these scores minus the mean of those, for the same questions in the same order.

    Questions are resampled for both together, so that a hard resample is hard for both; seeds are for each alone.

    Raises:
        ValueError: there is no score, or not as many questions here as there.
    """
    ours, theirs = _table(these), _table(those)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"A paired difference needs the same questions; there are {ours.shape[1]} and {theirs.shape[1]}.")
    return _middle(_means(ours, "these") - _means(theirs, "those"))


def wilson_interval(share: float, trials: int) -> ConfidenceInterval:
    """Wilson's score interval (1927) for a share of so many trials."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((middle + side) / (1 + z**2 / trials) for side in (-reach, reach))
    # Rounding must not push the share or [0, 1] out of it.
    return ConfidenceInterval(max(0.0, min(share, low)), min(1.0, max(share, high)))


def seed_contributions(totals: Sequence[float], counts: Sequence[int]) -> list[float]:
    """A value for each seed: their mean is the pooled mean, their spread its error (the linearized ratio; Cochran, 1977, 6.3).

    With equal counts they are the means of the seeds.

    Args:
        totals: Sum over a seed's cases.
        counts: Cases of a seed; not all 0.
    """
    size, mean = sum(counts) / len(counts), sum(totals) / sum(counts)
    return [mean + (total - mean * count) / size for total, count in zip(totals, counts, strict=True)]


def student_interval(values: Sequence[float]) -> ConfidenceInterval | None:
    """Student's confidence interval (1908) for the mean of independent values, such as the seeds'; None for a single one."""
    if len(values) < 2:
        return None
    mean, reach = fmean(values), _student_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))
    return ConfidenceInterval(mean - reach, mean + reach)


@lru_cache
def _student_quantile(freedom: int) -> float:
    """The two-sided `CONFIDENCE` quantile of Student's t, by bisection of the angle whose tangent is t / sqrt(freedom)."""
    low, high = 0.0, pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _student_share(middle, freedom) < CONFIDENCE else (low, middle)
    return sqrt(freedom) * tan(low)


def _student_share(angle: float, freedom: int) -> float:
    """Probability that |t| is below sqrt(freedom) tan(angle) (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    odd = freedom % 2
    term, total = (cos(angle) if odd else 1.0), 0.0
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cos(angle) ** 2 * (step - 1) / step
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


def _table(scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    import numpy as np

    if not scores or not scores[0] or len({len(row) for row in scores}) > 1:
        raise ValueError("A table of scores needs a seed, a question, and a score of each seed for each question.")
    return np.asarray(scores, np.float64)


def _means(table: NDArray[np.float64], seeds: Literal["these", "those"]) -> NDArray[np.float64]:
    """The mean of each resample, [BOOTSTRAP_DRAWS]."""
    means: NDArray[np.float64] = ((_drawn(table.shape[0], seeds) @ table) * _drawn(table.shape[1], "questions")).sum(axis=1)
    return means


@lru_cache(maxsize=4)
def _drawn(count: int, what: Literal["questions", "these", "those"]) -> NDArray[np.float64]:
    """Share of each of `count` things in each resample of as many, [BOOTSTRAP_DRAWS, count]."""
    import numpy as np

    rng = np.random.default_rng([SEED, *what.encode()])
    indices = rng.integers(count, size=(BOOTSTRAP_DRAWS, count)) + count * np.arange(BOOTSTRAP_DRAWS)[:, None]
    return np.bincount(indices.ravel(), minlength=BOOTSTRAP_DRAWS * count).reshape(BOOTSTRAP_DRAWS, count) / count


def _middle(drawn: NDArray[np.float64]) -> ConfidenceInterval:
    """The percentile interval of resampled values."""
    import numpy as np

    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ConfidenceInterval(float(low), float(high))
