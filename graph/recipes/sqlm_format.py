"""SQLM rewarded by form alone, the format control of arXiv 2508.03682.

Votes are counted and recorded, and reward nothing: 1 for an answer that holds a program, else 0. What this gains over the base
model is no self-questioning.

How we differ: as `sqlm`. The paper's control rewards a parsable answer, too.
"""

from __future__ import annotations

from graph.recipes.rewards import RewardSettings
from graph.recipes.sqlm import SETTINGS, Sqlm


def sqlm_format(rewards: RewardSettings) -> Sqlm:
    """As `sqlm`, but the student is rewarded for the form of its answers, and the teacher is not taught."""
    return Sqlm(rewards, settings={**SETTINGS, "learn.teaches_every": 0}, form_alone=True)
