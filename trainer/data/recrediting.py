"""Re-credit: the rewards that another recipe would have given to what a log holds.

Guarantees: questions, acceptance and attempts stay as recorded; with the recipe that played, the rewards are the recorded
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Final

from events.facts.drawn_facts import DocumentDrawn
from events.facts.log import Event
from events.facts.streams import iteration_of
from events.facts.trial_facts import TrialExamined
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    PassRateMeasured,
    QuestionProposed,
    QuestionRejected,
    RewardGiven,
)
from events.facts.values import Level, Seat, Task
from graph.recipes.recipe import Recipe

KINDS: Final = ("document_drawn", "question_rejected", "pass_rate_measured", "attempts_verified", "trial_examined")
"""Event kinds that are read besides generations and rewards."""


def recredited_rewards(events: Iterable[Event], recipe: Recipe) -> dict[tuple[str, int], tuple[float, ...] | None]:
    """Rewards, one a completion, by stream and version of the generation; None where the recipe masks it."""
    rewards: dict[tuple[str, int], tuple[float, ...] | None] = {}
    proposed: dict[tuple[str, Seat], int] = {}
    tasks: dict[tuple[str, int], Task] = {}
    levels: dict[str, Level] = {}
    sets: dict[tuple[str, int], tuple[int, int]] = {}
    """Iteration and set of proposals that earn the gain of their set."""
    gains: dict[tuple[int, int], list[float]] = {}
    for event in events:
        stream = event.stream
        match event.fact:
            case DocumentDrawn(level=level):
                levels[stream] = level
            case QuestionProposed(seat=seat):
                proposed[stream, seat] = event.version
            case PassRateMeasured(seat=seat, successes=successes, attempts=attempts):
                reward = recipe.teacher_reward(seat, successes, attempts, levels.get(stream))
                rewards[stream, proposed[stream, seat]] = (round(reward, 9),)
            # Proposals outside of their band were tried: the pass rate has given their reward.
            case QuestionRejected(seat=seat, reason=reason) if reason not in ("too_easy", "too_hard"):
                penalty = recipe.rejection_reward(reason)
                rewards[stream, proposed[stream, seat]] = None if penalty is None else (penalty,)
            case AttemptsMade(task=task):
                tasks[stream, event.version] = task
            case AttemptsVerified(of=of, verdicts=verdicts):
                rewards[stream, of] = tuple(recipe.student_reward(verdict, tasks[stream, of]) for verdict in verdicts)
            case RewardGiven(role="teacher", of=of, set=number) if number and _earns_gain(recipe, iteration_of(stream)):
                sets[stream, of] = iteration_of(stream), number
            case TrialExamined(iteration=iteration, set=number) as fact:
                gains.setdefault((iteration, number), []).append(fact.gain)
    rewards.update({place: (round(fmean(gains[own]), 9),) if own in gains else None for place, own in sets.items()})
    return rewards


def _earns_gain(recipe: Recipe, iteration: int) -> bool:
    """Whether a proposal earns what its set gained, and not what the recipe gives for its pass rate."""
    trials = recipe.plan.at(iteration).trials
    return trials is not None and trials.reward_gain
