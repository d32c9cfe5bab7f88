"""SQLM with a frozen proposer, an ablation of arXiv 2508.03682.

The teacher is not taught for its proposals; where it shares weights with the student, it changes with them.

How we differ: as `sqlm`.
"""

from __future__ import annotations

from graph.recipes.rewards import RewardSettings
from graph.recipes.sqlm import SETTINGS, Sqlm


def sqlm_frozen(rewards: RewardSettings) -> Sqlm:
    """As `sqlm`, but the teacher is never taught."""
    return Sqlm(rewards, settings={**SETTINGS, "learn.teaches_every": 0})
