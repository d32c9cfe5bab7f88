"""GASP without rejection sampling, arXiv 2603.15957, table 2.

Each seat proposes once. Every valid proposal is trained on, and is what the hard seat goes on from; bands count for
rewards only.

How we differ:
1. Similar proposals are accepted too, since novelty is one of the conditions that rejection sampling waits for; the paper
   only says that diversity collapses without it.
2. An episode whose lemma cannot be asked has no lift.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def no_rejection_sampling(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but each seat proposes once and whatever can be asked is learned from."""
    return Gasp(rewards, EpisodePlan(rejection_sampling=False))
