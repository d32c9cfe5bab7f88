"""DARC (arXiv 2601.13761) without its curriculum: the same pool in random order.

How we differ: as `darc`.
"""

from __future__ import annotations

from graph.recipes.darc import Darc, decoupled
from graph.recipes.rewards import RewardSettings


def darc_shuffled(rewards: RewardSettings) -> Darc:
    """As `darc`, but the questions of the pool come in random order."""
    return decoupled("shuffled")
