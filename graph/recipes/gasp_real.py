"""GASP + real-data RL, arXiv 2603.15957, table 2: the paper's strongest variant.

After self-play, the student does RL on real questions, with GRPO within each of them.

How we differ:
1. How many real questions an iteration has is a setting (`play.practice`); the paper does not say.
2. Wrong and malformed answers to real questions are rewarded as in self-play (`rewards`), not with 0.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def gasp_real(rewards: RewardSettings) -> Gasp:
    """As `gasp`, and the student does RL on real questions."""
    return Gasp(rewards, EpisodePlan(real_data=True))
