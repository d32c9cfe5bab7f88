"""Vanilla: supervised fine-tuning on right answers alone, the baseline of R-Tuning, arXiv 2311.09677.

How we differ: answers are programs.
"""

from __future__ import annotations

from graph.recipes.r_tuning import Supervised, supervised
from graph.recipes.recipe import GivenTexts
from graph.recipes.rewards import RewardSettings


def sft_vanilla(rewards: RewardSettings) -> Supervised:
    """The student learns the right answers to real questions, all of them and nothing else."""
    return supervised(GivenTexts())
