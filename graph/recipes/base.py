"""The base model: no update, the reference of arXiv 2603.15957, table 2.

GASP is played and nothing is learned, so that the base model's chances at the goalposts are known from as many samples as
those of a model that learns, and an untrained teacher's questions can be looked at.

How we differ: the paper's base model is only evaluated.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def base(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but nothing is learned."""
    return Gasp(rewards, EpisodePlan(learns=False))
