"""Advantages from rewards: the formulas that recipes choose from.

Law: pure arithmetic on numbers; no tokens, no torch. Every function returns one advantage a completion, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from statistics import fmean, pstdev

from graph.recipe import Rewarded

Credit = Callable[[Sequence[Rewarded]], list[tuple[float, ...]]]


def standardised(values: Sequence[float], mean: float, deviation: float) -> tuple[float, ...]:
    """(value - mean) / deviation; all zero where nothing deviates, since then nothing can be learned."""
    if deviation < 1e-9:
        return (0.0,) * len(values)
    return tuple((value - mean) / deviation for value in values)


def trr_plus_plus(groups: Sequence[Rewarded]) -> list[tuple[float, ...]]:
    """Task-Relative REINFORCE++: (r - mean) / std over all completions of the same role and task.

    Absolute Zero, arXiv 2505.03335, section 3.3.5. We normalise completions, as the formula says; the authors' code whitens
    tokens, so that long answers weigh more.
    """
    pools: dict[Hashable, list[float]] = {}
    for group in groups:
        pools.setdefault((group.role, group.task), []).extend(group.rewards)
    moments = {key: (fmean(pool), pstdev(pool)) for key, pool in pools.items()}
    return [standardised(group.rewards, *moments[group.role, group.task]) for group in groups]


def grpo(groups: Sequence[Rewarded]) -> list[tuple[float, ...]]:
    """GRPO: (r - mean) / std within each group. DeepSeekMath, arXiv 2402.03300, section 4.1.2."""
    return [standardised(group.rewards, fmean(group.rewards), pstdev(group.rewards)) for group in groups]
