"""SQLM with true labels, a control that arXiv 2508.03682 lacks.

The label is what the statement really asks for, which the pocket world knows; a statement that is none of this world has no
label. The vote is counted and recorded all the same. What `sqlm` falls short of this is the price of voting.

How we differ: as `sqlm`. It needs a world that knows the truth.
"""

from __future__ import annotations

from dataclasses import replace

from graph.recipes.rewards import RewardSettings
from graph.recipes.sqlm import EPISODE_PLAN, Sqlm


def sqlm_truth(rewards: RewardSettings) -> Sqlm:
    """As `sqlm`, but answers are compared with what the statement really asks for."""
    return Sqlm(rewards, replace(EPISODE_PLAN, labels="truth"))
