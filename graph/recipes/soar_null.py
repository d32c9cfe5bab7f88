"""SOAR (arXiv 2601.18778) without a teacher, a null control: how often a threshold of 0.01 promotes by chance.

Sets are real training questions, drawn at random. On few goalposts the threshold is less than one question, so that noise of
the evaluation promotes too; the promotions of `soar` are to be compared with these.

How we differ: the paper has no such control.
"""

from __future__ import annotations

from graph.recipes.recipe import EpisodePlan, Trials
from graph.recipes.rewards import RewardSettings
from graph.recipes.soar import SETTINGS, Soar


def soar_null(rewards: RewardSettings) -> Soar:
    """As `soar`, but sets are real training questions drawn at random, and there is no teacher."""
    plan = EpisodePlan(guided=(), real_data=True, trials=Trials())
    return Soar(rewards, plan, {**SETTINGS, "play.practice": 64, "play.practice_attempts": 8})
