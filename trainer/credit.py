"""Asks the recipe for advantages.

Law: the trainer knows no algorithm; it hands rewards to the recipe and takes numbers back. Zero advantages are not
computed, since they move nothing, but they stay in the average, so that leaving them out changes no gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from events.errors import TrainerError
from events.types import Phase
from events.values import Role
from graph.recipe import Recipe, Rewarded
from trainer.replay import Group, Sample


@dataclass(frozen=True)
class Credited:
    """A completion and how much better than expected it was."""

    sample: Sample
    advantage: float


@dataclass(frozen=True)
class Lesson:
    """What one optimizer step learns from: one phase of an iteration."""

    phase: Phase
    credited: tuple[Credited, ...]
    """Completions with a non-zero advantage."""
    groups: int
    silent_groups: int
    """Groups without such a completion."""
    tokens: int
    """Completion tokens of all groups, over which the loss is averaged."""
    reward: float
    """Mean reward over all completions."""


PHASES: tuple[Phase, ...] = ("lemma", "lift", "solve", "practice")
"""The order in which an iteration's phases are learned."""


def lessons(groups: Sequence[Group], recipe: Recipe, teacher_scale: float, roles: Collection[Role]) -> list[Lesson]:
    """One lesson a phase in which these roles have groups, in the order of `PHASES`.

    Raises:
        TrainerError: the recipe returned other numbers than it was asked for.
    """
    credits = recipe.credit([Rewarded(group.phase, group.role, group.task, group.rewards) for group in groups])
    if [len(row) for row in credits] != [len(group.samples) for group in groups]:
        raise TrainerError(f"The recipe {recipe!r} must return one advantage a completion; correct its credit")
    scale = {"teacher": teacher_scale, "student": 1.0}
    found = []
    for phase in PHASES:
        rows = [
            [Credited(sample, advantage * scale[group.role]) for sample, advantage in zip(group.samples, row, strict=True)]
            for group, row in zip(groups, credits, strict=True)
            if group.phase == phase and group.role in roles
        ]
        if rows:
            found.append(_lesson(phase, rows))
    return found


def _lesson(phase: Phase, rows: Sequence[Sequence[Credited]]) -> Lesson:
    everything = [credited for row in rows for credited in row]
    return Lesson(
        phase,
        credited=tuple(one for one in everything if _speaks(one)),
        groups=len(rows),
        silent_groups=sum(not any(_speaks(one) for one in row) for row in rows),
        tokens=sum(len(one.sample.ids) for one in everything),
        reward=sum(one.sample.reward for one in everything) / len(everything),
    )


def _speaks(credited: Credited) -> bool:
    return credited.advantage != 0 and len(credited.sample.ids) > 0
