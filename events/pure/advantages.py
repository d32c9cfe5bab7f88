"""Advantages from rewards: the formulas that recipes choose from.

Law: pure arithmetic on numbers; no tokens, no torch. Every function returns one advantage a completion, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from types import MappingProxyType

from events.facts.values import Phase, Role, Seat, Task


@dataclass(frozen=True)
class RewardGroup:
    """The rewards of one group: all completions of one prompt."""

    phase: Phase
    role: Role
    task: Seat | Task
    rewards: tuple[float, ...]


AdvantageEstimator = Callable[[Sequence[RewardGroup]], list[tuple[float, ...]]]


def standardise(values: Sequence[float], mean: float, deviation: float) -> tuple[float, ...]:
    """(value - mean) / deviation; all zero where nothing deviates, since then nothing can be learned."""
    if deviation < 1e-9:
        return (0.0,) * len(values)
    return tuple((value - mean) / deviation for value in values)


def standardise_pooled(groups: Sequence[RewardGroup], key: Callable[[RewardGroup], Hashable]) -> list[tuple[float, ...]]:
    """(r - mean) / std over all completions of the groups with the same key."""
    pools: dict[Hashable, list[float]] = {}
    for group in groups:
        pools.setdefault(key(group), []).extend(group.rewards)
    moments = {name: (fmean(pool), pstdev(pool)) for name, pool in pools.items()}
    return [standardise(group.rewards, *moments[key(group)]) for group in groups]


def trr_plus_plus(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """Task-Relative REINFORCE++: (r - mean) / std over all completions of the same role and task.

    Absolute Zero, arXiv 2505.03335, section 3.3.5. We normalise completions, as the formula says; the authors' code whitens
    tokens, so that long answers weigh more.
    """
    return standardise_pooled(groups, lambda group: (group.role, group.task))


def trr_plus_plus_and_grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """TRR++ over self-play, GRPO within each practice question: what recipes take unless `learn.credit` says otherwise."""
    played = iter(trr_plus_plus([group for group in groups if group.phase != "practice"]))
    practised = iter(grpo([group for group in groups if group.phase == "practice"]))
    return [next(practised if group.phase == "practice" else played) for group in groups]


def reinforce_plus_plus(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """REINFORCE++: (r - mean) / std over the batch of an optimizer step, which is a phase here. arXiv 2501.03262.

    The paper subtracts the KL divergence from the reward; here it is a term of the loss (`learn.kl`).
    """
    return standardise_pooled(groups, lambda group: group.phase)


def reinforce_plus_plus_baseline(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """REINFORCE++-baseline: the group's mean is taken off before REINFORCE++. arXiv 2501.03262."""
    return reinforce_plus_plus([replace(group, rewards=row) for group, row in zip(groups, dr_grpo(groups), strict=True)])


def grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """GRPO: (r - mean) / std within each group. DeepSeekMath, arXiv 2402.03300, section 4.1.2. DAPO's too."""
    return [standardise(group.rewards, fmean(group.rewards), pstdev(group.rewards)) for group in groups]


def dr_grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """Dr. GRPO: r - mean of the group, so that easy and hard questions are not blown up. arXiv 2503.20783."""
    return [standardise(group.rewards, fmean(group.rewards), float(len(set(group.rewards)) > 1)) for group in groups]


def rloo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """RLOO: r - mean of the group's others, an unbiased baseline; 0 where there are none. arXiv 2402.14740."""
    spare = [len(group.rewards) / max(1, len(group.rewards) - 1) for group in groups]
    return [tuple(share * value for value in row) for share, row in zip(spare, dr_grpo(groups), strict=True)]


ADVANTAGE_ESTIMATORS: Mapping[str, AdvantageEstimator] = MappingProxyType(
    {
        "grpo": grpo,
        "dr_grpo": dr_grpo,
        "rloo": rloo,
        "reinforce_plus_plus": reinforce_plus_plus,
        "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline,
        "trr_plus_plus": trr_plus_plus,
    }
)
"""By name, for `learn.credit`. Within-group ones are silent on groups of one, which a teacher's proposals are."""
