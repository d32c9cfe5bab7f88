"""How well scores tell right answers from wrong ones: average precision and calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

BINS: Final = 10
"""Bins of equal width of the calibration error."""


def average_precision(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Average precision of answers ranked by score: the sum of (R_n - R_(n-1)) P_n over distinct scores; None if none is right.

    P_n and R_n are precision and recall of the answers that score at least the n-th highest score. Answers of equal scores
    count together, so that their order does not matter. R-Tuning, arXiv 2311.09677; as scikit-learn computes it.
    """
    total = sum(right)
    if not total:
        return None
    ranked = sorted(zip(scores, right, strict=True), key=lambda pair: -pair[0])
    area, seen, found = 0.0, 0, 0
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        group = [is_right for _, is_right in tied]
        seen, found = seen + len(group), found + sum(group)
        area += sum(group) / total * found / seen
    return area


def expected_calibration_error(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """Mean distance between probability and share of right answers over `BINS` bins, weighted by their answers; 0 of none.

    Guo et al., arXiv 1706.04599, section 2.
    """
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability, is_right in zip(probabilities, right, strict=True):
        bins.setdefault(min(int(probability * BINS), BINS - 1), []).append((probability, is_right))
    gaps = (abs(sum(probability for probability, _ in each) - sum(is_right for _, is_right in each)) for each in bins.values())
    return sum(gaps) / len(right) if right else 0.0
