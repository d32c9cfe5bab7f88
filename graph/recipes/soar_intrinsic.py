"""SOAR with an intrinsic reward, the control Intrinsic-T of arXiv 2601.18778: a question earns its learnability.

Learnability is 1 - the pass rate, and 0 where nothing passed (Absolute Zero, arXiv 2505.03335, equation 4). Sets are tried, and
students promoted, as in `soar`; but the teacher does not learn what came of it.

How we differ: as `soar`. That trials and promotions stay is our choice, so that the teacher's reward is all that differs.
"""

from __future__ import annotations

from dataclasses import replace

from graph.recipes.recipe import Trials
from graph.recipes.rewards import RewardSettings
from graph.recipes.soar import EPISODE_PLAN, Soar


def soar_intrinsic(rewards: RewardSettings) -> Soar:
    """As `soar`, but the teacher earns how learnable each question is, whatever training on it gains."""
    return Soar(rewards, plan=replace(EPISODE_PLAN, trials=Trials(reward_gain=False)))
