"""GASP without the I/O axis, arXiv 2603.15957, table 2.

Every lemma and lift varies what is computed, never the instances.

How we differ: as `gasp`.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def no_io_axis(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but lemmas and lifts vary the function only."""
    return Gasp(rewards, EpisodePlan(axes=("function",)))
