"""Asks the recipe for advantages.

Law: the trainer knows no algorithm; it hands rewards to the recipe and takes numbers back. Zero advantages are not
computed where they move nothing (without a KL or entropy term), but they stay in the average, so that leaving them out
changes no gradient; with `learn.filter_silent` groups of nothing else leave the average as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from events.facts.errors import TrainerError
from events.facts.values import NoSignalReason, Phase, Role
from events.pure.advantages import ADVANTAGE_ESTIMATORS, RewardGroup
from graph.recipes.recipe import Recipe
from graph.settings.config import LearnSettings
from trainer.data.replay import Rollout, RolloutGroup


@dataclass(frozen=True)
class Credited:
    """A completion and how much better than expected it was."""

    sample: Rollout
    advantage: float


@dataclass(frozen=True)
class StepBatch:
    """What one optimizer step learns from: one phase of an iteration."""

    phase: Phase
    credited: tuple[Credited, ...]
    """Completions that move the weights."""
    groups: int
    silent_groups: int
    """Groups whose advantages are all zero, or whose completions are all empty."""
    silent: Mapping[NoSignalReason, int]
    """Completions without signal, by reason."""
    completions: int
    """Completions over which the loss is averaged."""
    tokens: int
    """Their tokens."""
    reward: float
    """Mean reward over all completions."""


PHASES: tuple[Phase, ...] = ("lemma", "lift", "open", "solve", "practice")
"""The order in which an iteration's phases are learned."""


def lessons(groups: Sequence[RolloutGroup], recipe: Recipe, learn: LearnSettings, roles: Collection[Role]) -> list[StepBatch]:
    """One lesson a phase in which these roles have groups, in the order of `PHASES`; none where nothing is to be learned.

    Raises:
        TrainerError: the recipe returned other numbers than it was asked for.
    """
    if not recipe.plan.learns:
        return []
    credit = ADVANTAGE_ESTIMATORS.get(learn.credit, recipe.credit)
    credits = credit([RewardGroup(group.phase, group.role, group.task, group.rewards) for group in groups])
    if [len(row) for row in credits] != [len(group.samples) for group in groups]:
        raise TrainerError(f"The recipe {recipe!r} must return one advantage a completion; correct its credit")
    scale = {"teacher": learn.teacher_scale, "student": 1.0}
    found = []
    for phase in PHASES:
        rows = [
            [Credited(sample, advantage * scale[group.role]) for sample, advantage in zip(group.samples, row, strict=True)]
            for group, row in zip(groups, credits, strict=True)
            if group.phase == phase and group.role in roles
        ]
        if rows:
            found.append(_step_batch(phase, rows, learn))
    return found


def _step_batch(phase: Phase, rows: Sequence[Sequence[Credited]], learn: LearnSettings) -> StepBatch:
    loud = [row for row in rows if any(_has_signal(one) for one in row)]
    averaged = [one for row in (loud if learn.filter_silent else rows) for one in row]
    rewards = [one.sample.reward for row in rows for one in row]
    return StepBatch(
        phase,
        credited=tuple(one for one in averaged if _has_signal(one) or _has_gradient(one.sample, learn)),
        groups=len(rows),
        silent_groups=len(rows) - len(loud),
        silent=Counter(_no_signal_reasons(rows, learn)),
        completions=len(averaged),
        tokens=sum(len(one.sample.ids) for one in averaged),
        reward=sum(rewards) / len(rewards),
    )


def _has_signal(credited: Credited) -> bool:
    return credited.advantage != 0 and len(credited.sample.ids) > 0


def _has_gradient(sample: Rollout, learn: LearnSettings) -> bool:
    """Whether a term of the loss that needs no reward moves it."""
    return (learn.kl > 0 or learn.entropy > 0) and _role_learns(sample, learn) and len(sample.ids) > 0


def _role_learns(sample: Rollout, learn: LearnSettings) -> bool:
    return sample.role == "student" or learn.teacher_scale > 0


def _no_signal_reasons(rows: Sequence[Sequence[Credited]], learn: LearnSettings) -> Iterator[NoSignalReason]:
    """Why each completion without signal has none."""
    varied = len({one.sample.reward for row in rows for one in row}) > 1
    for row in rows:
        alike = len({one.sample.reward for one in row}) == 1
        for sample in (one.sample for one in row if not _has_signal(one)):
            if len(sample.ids) == 0:
                yield "empty"
            elif not _role_learns(sample, learn):
                yield "untaught"
            elif len(row) == 1 and varied:
                yield "alone"
            elif alike:
                yield "all_right" if sample.reward > 0 else "all_wrong"
            else:
                yield "average"
