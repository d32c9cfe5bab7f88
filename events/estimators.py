"""Estimators on counts: unbiased pass@k."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import fmean


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
    return fmean(1 - comb(attempts - count, k) / comb(attempts, k) for count in successes)
