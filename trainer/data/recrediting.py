"""Re-credit: the rewards that another recipe would have given to what a log holds.

Guarantees: questions, acceptance and attempts stay as recorded; with the recipe that played, the rewards are the recorded
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from events.facts.drawn_facts import DocumentDrawn
from events.facts.log import Event
from events.facts.types import AttemptsMade, AttemptsVerified, PassRateMeasured, QuestionProposed, QuestionRejected
from events.facts.values import Level, Seat, Task
from graph.recipes.recipe import Recipe

KINDS: Final = ("document_drawn", "question_rejected", "pass_rate_measured", "attempts_verified")
"""Event kinds that are read besides generations and rewards."""


def recredited_rewards(events: Iterable[Event], recipe: Recipe) -> dict[tuple[str, int], tuple[float, ...] | None]:
    """Rewards, one a completion, by stream and version of the generation; None where the recipe masks it."""
    rewards: dict[tuple[str, int], tuple[float, ...] | None] = {}
    proposed: dict[tuple[str, Seat], int] = {}
    tasks: dict[tuple[str, int], Task] = {}
    levels: dict[str, Level] = {}
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
    return rewards
