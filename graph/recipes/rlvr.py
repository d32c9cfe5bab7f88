"""RLVR: reinforcement learning on real questions alone, the baseline of arXiv 2603.15957, table 2.

GASP + real-data RL without self-play: GRPO (arXiv 2402.03300) within each real question, 1 for an answer
that passes all tests, else 0.

How we differ:
1. Questions are drawn without replacement within an iteration.
2. Advantages are divided by the group's deviation, as GRPO does; `learn.credit=dr_grpo` does not.
3. `rewards` has no effect: the baseline's reward is binary.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def rlvr(rewards: RewardSettings) -> Gasp:
    """The student does RL on real questions; there is no teacher."""
    return Gasp(rewards.model_copy(update={"wrong": 0.0, "malformed": 0.0}), EpisodePlan(guided=(), real_data=True))
