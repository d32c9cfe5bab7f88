"""Step batches: gives the rollouts of an iteration their advantages and divides them into optimizer steps.

Guarantees:
- Recipe or settings name the advantage estimator; no algorithm is known here.
- Rollouts that cannot move the weights are left out of the gradient but stay in the average, so that leaving them out changes
  no gradient. With `learn.filter_silent` zero-advantage groups leave the average as well.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from events.facts.values import NoSignalReason, Phase, Role
from events.pure.advantages import ADVANTAGE_ESTIMATORS, EstimatorName
from graph.recipes.recipe import Recipe
from graph.settings.config import LearnSettings
from trainer.data.replay import Rollout, RolloutGroup


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step learns from: one phase of an iteration, or a part of it."""

    phase: Phase
    rollouts: tuple[Rollout, ...]
    """Those that can move the weights."""
    groups: int
    silent_groups: int
    """Zero-advantage groups, and groups of empty completions only."""
    silent: Mapping[NoSignalReason, int]
    """Count of completions without signal, by reason."""
    completions: int
    """Completions over which the loss is averaged."""
    tokens: int
    """Sampled tokens of these completions."""
    reward: float
    """Mean reward over all completions."""

    @property
    def learned_tokens(self) -> int:
        """Sampled tokens of `rollouts`."""
        return sum(rollout.tokens for rollout in self.rollouts)


PHASES: tuple[Phase, ...] = get_args(Phase)
"""The order in which the phases of an iteration are learned."""


def advantage_estimator(recipe: Recipe, learn: LearnSettings) -> EstimatorName:
    """The settings' advantage estimator, or the recipe's where they leave it to the recipe."""
    return recipe.advantage_estimator if learn.credit == "recipe" else learn.credit


def step_batches(
    groups: Sequence[RolloutGroup], recipe: Recipe, learn: LearnSettings, roles: Collection[Role], iteration: int = 0
) -> list[StepBatch]:
    """The batches of each phase in which these roles have groups, in the order of `PHASES`; none where nothing is learned.

    A phase is one batch, or several of at most `learn.groups_per_step` groups, in the order in which they were sampled. The
    teacher's groups are left out of iterations that `learn.teaches_every` passes over.
    """
    if not recipe.plan.at(iteration).learns:
        return []
    taught = learn.teaches_every > 0 and iteration % learn.teaches_every == 0
    rewarded = [group for group in groups if group.phase != "text"]
    texts = [group for group in groups if group.phase == "text"]
    advantages = ADVANTAGE_ESTIMATORS[advantage_estimator(recipe, learn)](rewarded)
    scale = {"teacher": learn.teacher_scale, "student": 1.0}
    phases: dict[Phase, list[list[Rollout]]] = {}
    for group, row in zip(rewarded, advantages, strict=True):
        if group.role in roles and (taught or group.role == "student"):
            pairs = zip(group.rollouts, row, strict=True)
            rollouts = [replace(rollout, advantage=advantage * scale[group.role]) for rollout, advantage in pairs]
            phases.setdefault(group.phase, []).append(rollouts)
    if texts and "student" in roles:
        phases["text"] = [list(group.rollouts) for group in texts]
    return [
        _step_batch(phase, part, learn)
        for phase in PHASES
        if phase in phases
        for part in _equal_parts(phases[phase], learn.groups_per_step)
    ]


def trial_batches(
    groups: Sequence[RolloutGroup], recipe: Recipe, learn: LearnSettings, most: int, steps: int, iteration: int
) -> list[StepBatch]:
    """The batches of a trial, a step each, of at most `most` groups; they come again where they are fewer than `steps`."""
    settings = learn.model_copy(update={"groups_per_step": most})
    roles: tuple[Role, ...] = ("student",)
    batches = step_batches(groups, recipe, settings, roles, iteration)
    return list(itertools.islice(itertools.cycle(batches), steps))


def _equal_parts(groups: Sequence[list[Rollout]], most: int) -> list[Sequence[list[Rollout]]]:
    """As few parts as hold at most so many groups each, whose sizes differ by one at most; one part if `most` is 0."""
    count = math.ceil(len(groups) / most) if most else 1
    ends = [len(groups) * part // count for part in range(count + 1)]
    return [groups[begin:end] for begin, end in itertools.pairwise(ends)]


def _step_batch(phase: Phase, groups: Sequence[Sequence[Rollout]], learn: LearnSettings) -> StepBatch:
    informative = [group for group in groups if any(map(_has_signal, group))]
    averaged = [rollout for group in (informative if learn.filter_silent else groups) for rollout in group]
    rewards = [rollout.reward for group in groups for rollout in group]
    return StepBatch(
        phase,
        rollouts=tuple(rollout for rollout in averaged if _has_signal(rollout) or _has_gradient(rollout, learn)),
        groups=len(groups),
        silent_groups=len(groups) - len(informative),
        silent=Counter(_no_signal_reasons(groups, learn)),
        completions=len(averaged),
        tokens=sum(rollout.tokens for rollout in averaged),
        reward=sum(rewards) / len(rewards),
    )


def _has_signal(rollout: Rollout) -> bool:
    return (rollout.advantage != 0 or rollout.phase == "text") and rollout.tokens > 0


def _has_gradient(rollout: Rollout, learn: LearnSettings) -> bool:
    """Whether a term of the loss that needs no reward, KL or entropy, moves the weights."""
    return (learn.kl > 0 or learn.entropy > 0) and _role_learns(rollout, learn) and rollout.tokens > 0


def _role_learns(rollout: Rollout, learn: LearnSettings) -> bool:
    return rollout.role == "student" or learn.teacher_scale > 0


def _no_signal_reasons(groups: Sequence[Sequence[Rollout]], learn: LearnSettings) -> Iterator[NoSignalReason]:
    """Why each completion without signal has none."""
    varied = len({rollout.reward for group in groups for rollout in group}) > 1
    for group in groups:
        all_equal = len({rollout.reward for rollout in group}) == 1
        for rollout in group:
            if _has_signal(rollout):
                continue
            if rollout.tokens == 0:
                yield "empty"
            elif not _role_learns(rollout, learn):
                yield "untaught"
            elif len(group) == 1 and varied:
                yield "alone"
            elif all_equal:
                yield "all_right" if rollout.reward > 0 else "all_wrong"
            else:
                yield "average"
