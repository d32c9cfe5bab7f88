"""Advantages from rewards: the estimators that recipes choose from.

Every estimator takes G groups of rewards and returns G rows, one advantage a completion, in order. No tokens, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from types import MappingProxyType
from typing import Literal

from events.facts.values import Phase, Role, Seat, Task


@dataclass(frozen=True)
class RewardGroup:
    """Rewards of all completions of one prompt."""

    phase: Phase
    role: Role
    task: Seat | Task
    rewards: tuple[float, ...]
    prompt: str = field(default="", kw_only=True)
    """Hash of the prompt's text; empty where it is not known."""
    set: int = field(default=0, kw_only=True)
    """The set of questions that it belongs to, from 1; 0 where there are no sets."""


AdvantageEstimator = Callable[[Sequence[RewardGroup]], list[tuple[float, ...]]]
EstimatorName = Literal[
    "grpo",
    "grpo_by_prompt",
    "dr_grpo",
    "dr_grpo_by_prompt",
    "rloo",
    "rloo_by_set",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "trr_plus_plus",
    "trr_plus_plus_and_grpo",
]


def standardise(values: Sequence[float], mean: float, deviation: float) -> tuple[float, ...]:
    """(value - mean) / deviation; all zero where the deviation is."""
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

    Absolute Zero, arXiv 2505.03335, section 3.3.5. Completions are normalised, as in the formula; the authors' code whitens
    tokens, so that long completions weigh more.
    """
    return standardise_pooled(groups, lambda group: (group.role, group.task))


def trr_plus_plus_and_grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """TRR++ over self-play and GRPO within each real question: what recipes choose unless their paper has another."""
    self_play = iter(trr_plus_plus([group for group in groups if group.phase != "practice"]))
    real = iter(grpo([group for group in groups if group.phase == "practice"]))
    return [next(real if group.phase == "practice" else self_play) for group in groups]


def reinforce_plus_plus(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """REINFORCE++: (r - mean) / std over the batch of an optimizer step, which is a phase here. arXiv 2501.03262.

    The paper subtracts the KL divergence from the reward; here it is a term of the loss (`learn.kl`).
    """
    return standardise_pooled(groups, lambda group: group.phase)


def reinforce_plus_plus_baseline(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """REINFORCE++-baseline: subtracts the group's mean before REINFORCE++. arXiv 2501.03262."""
    return reinforce_plus_plus([replace(group, rewards=row) for group, row in zip(groups, dr_grpo(groups), strict=True)])


def grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """GRPO: (r - mean) / std within each group. DeepSeekMath, arXiv 2402.03300, section 4.1.2. DAPO's too."""
    return [standardise(group.rewards, fmean(group.rewards), pstdev(group.rewards)) for group in groups]


def grpo_by_prompt(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """GRPO where completions of one role to one prompt are a group, though they were asked for one by one.

    So proposals from one prompt are compared with each other. SQLM, arXiv 2508.03682: 4 proposals of each of 64 prompts.
    """
    keys, pools = _pooled_by_prompt(groups)
    moments = {key: (fmean(pool), pstdev(pool)) for key, pool in pools.items()}
    return [standardise(group.rewards, *moments[key]) for key, group in zip(keys, groups, strict=True)]


def _pooled_by_prompt(groups: Sequence[RewardGroup]) -> tuple[list[tuple[Role, str]], dict[tuple[Role, str], list[float]]]:
    """The key of each group, and the rewards of all groups with it."""
    keys = [(group.role, group.prompt or str(number)) for number, group in enumerate(groups)]
    pools: dict[tuple[Role, str], list[float]] = {}
    for key, group in zip(keys, groups, strict=True):
        pools.setdefault(key, []).extend(group.rewards)
    return keys, pools


def dr_grpo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """Dr. GRPO: r - mean of the group; no division by std, which would overweight easy and hard questions. arXiv 2503.20783."""
    return [standardise(group.rewards, fmean(group.rewards), float(len(set(group.rewards)) > 1)) for group in groups]


def dr_grpo_by_prompt(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """Dr. GRPO where completions of one role to one prompt are a group, as in `grpo_by_prompt`."""
    keys, pools = _pooled_by_prompt(groups)
    moments = {key: (fmean(pool), float(len(set(pool)) > 1)) for key, pool in pools.items()}
    return [standardise(group.rewards, *moments[key]) for key, group in zip(keys, groups, strict=True)]


def rloo(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """RLOO: r - mean of the group's others, an unbiased baseline; 0 where there are none. arXiv 2402.14740."""
    # r - mean of the n - 1 others is n / (n - 1) times r - mean of all n.
    scales = [len(group.rewards) / max(1, len(group.rewards) - 1) for group in groups]
    return [tuple(scale * value for value in row) for scale, row in zip(scales, dr_grpo(groups), strict=True)]


def rloo_by_set(groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
    """RLOO over the sets of an iteration for the teacher, and within each group for the student.

    A set's reward is the mean of its proposals' rewards, and all of them get its advantage: r - mean of the other sets. SOAR,
    arXiv 2601.18778, section 3: all proposals of a set earn the same.
    """
    pools: dict[int, list[float]] = {}
    for group in groups:
        if group.role == "teacher":
            pools.setdefault(group.set, []).extend(group.rewards)
    means = tuple(fmean(pool) for pool in pools.values())
    (row,) = rloo([RewardGroup("open", "teacher", "open", means)]) if means else ((),)
    of_set = dict(zip(pools, row, strict=True))
    student = iter(rloo([group for group in groups if group.role != "teacher"]))
    return [(of_set[group.set],) * len(group.rewards) if group.role == "teacher" else next(student) for group in groups]


ADVANTAGE_ESTIMATORS: Mapping[EstimatorName, AdvantageEstimator] = MappingProxyType(
    {
        "grpo": grpo,
        "grpo_by_prompt": grpo_by_prompt,
        "dr_grpo": dr_grpo,
        "dr_grpo_by_prompt": dr_grpo_by_prompt,
        "rloo": rloo,
        "rloo_by_set": rloo_by_set,
        "reinforce_plus_plus": reinforce_plus_plus,
        "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline,
        "trr_plus_plus": trr_plus_plus,
        "trr_plus_plus_and_grpo": trr_plus_plus_and_grpo,
    }
)
"""By name, for recipes and `learn.credit`. Within-group estimators give 0 to groups of one, which a teacher's proposals are."""
