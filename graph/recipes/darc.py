"""DARC: Decoupled Asymmetric Reasoning Curriculum, arXiv 2601.13761: a questioner learns first, a solver from what it wrote.

Stage 1: the questioner writes about a document at a level, and learns; the solver is frozen. The solver's answers with the
document vote on the label, and s is the share of its answers without the document that match it. The reward is 1 - |s - t|,
where t is 0.8, 0.5, 0.2 for easy, medium, hard; -0.1 if s = 0; -1 for what is no question, is copied from the document, or is
not grounded in it. Then the frozen questioner writes about every document and level once. Of similar questions the harder one
stays, and this pool is sorted by level.
Stage 2: the solver learns from the pool in this order. Its answers with the document vote again; its answers without it get 1
or 0 and learn, by rewards minus their mean, without KL. Labels on which less than 0.3 of the votes agree teach nothing.

How we differ:
1. Questions are programs to be written, and a label is the outputs for all of the proposal's inputs.
2. A proposal is validated as everywhere: its program, which labels nothing, must run on its inputs.
3. Grounding is decided where the world knows what a statement asks for, and else by nobody; DARC's judge model passes what it
   cannot judge. DARC's second judge, of the pool, is our validation.
4. DARC's ranking penalty, which compares one pair of questions for each level of a document, is left out.
5. All tokens are sampled from the whole distribution (DARC cuts it, at top_p 0.95 and top_k 40).
6. The questioner's rewards are not divided by their deviation, and have no KL term (DARC: 0.01); 4 proposals are compared where
   DARC has 8. `documents.proposals` and `learn` change these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from events.facts.types import Reason
from events.facts.values import Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName
from graph.recipes.recipe import Band, EpisodePlan, PoolOrder
from graph.recipes.rewards import RewardSettings

TARGETS: Final[Mapping[Level, float]] = {"easy": 0.8, "medium": 0.5, "hard": 0.2}
"""The share of answers without the document that ought to match the label."""
NEVER_MATCHED: Final = -0.1
"""Reward of a question that no answer without the document matches."""
REJECTED: Final = -1.0
"""Reward of a proposal that is no question about its document."""
SETTINGS: Final[Mapping[str, Any]] = {
    "model": "pocket3",
    "prompts": "pocket3",
    "policies": "separate",
    "play.episodes": 24,
    "play.public_pairs": 0,
    "play.tasks": ("induction",),
    "verify.ties": "first",
    "learn.loss": "dr_grpo",
}


@dataclass(frozen=True)
class Darc:
    """DARC, and its control."""

    plan: EpisodePlan
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    advantage_estimator: EstimatorName = "dr_grpo_by_prompt"

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band unless no answer matches the label."""
        return "in_band" if successes else "too_hard"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """How near the share of matching answers is to the level's target, 1 at best; without a level, to that of `medium`."""
        return 1 - abs(successes / attempts - TARGETS[level or "medium"]) if successes else NEVER_MATCHED

    def rejection_reward(self, reason: Reason) -> float | None:
        """-1, for whatever reason."""
        return REJECTED

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 for an answer that matches the label, else 0."""
        return float(verdict.outcome == "passed")


def decoupled(order: PoolOrder) -> Darc:
    """The questioner learns, then writes a pool, then the solver learns from the pool in this order."""
    learns_from_pool = EpisodePlan(guided=(), axes=("function",), plays_pool=True, labels="informed")
    alone = EpisodePlan(
        guided=(), axes=("function",), documents=True, rejection_sampling=False, student_trains_on=(), iterations=1
    )
    writes_pool = replace(alone, pools=order, then=learns_from_pool)
    return Darc(replace(alone, labels="informed", then=writes_pool))


def darc(rewards: RewardSettings) -> Darc:
    """A teacher learns to write about documents at levels; then the student learns from a pool of its questions."""
    return decoupled("by_level")
