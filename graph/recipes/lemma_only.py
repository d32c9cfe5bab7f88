"""GASP with lemmas alone: an ablation that arXiv 2603.15957 lacks.

The hard seat never plays. Unlike in the one-step variants, band and curve are those of lemmas.

How we differ: as `gasp`. At the same number of episodes the student learns from half as many questions.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def lemma_only(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but without lifts."""
    return Gasp(rewards, EpisodePlan(guided=("easy",)))
