"""GASP that teaches with lifts alone: an ablation that arXiv 2603.15957 lacks.

Lemmas are made and the easy seat is rewarded for them, since lifts grow from them; the student learns from lifts only.

How we differ: as `gasp`. At the same number of episodes the student learns from half as many questions.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def lift_only(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but the student learns from lifts only."""
    return Gasp(rewards, EpisodePlan(student_trains_on=("hard",)))
