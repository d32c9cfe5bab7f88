"""One-step medium, arXiv 2603.15957, table 2: the ablation of GASP without lemma and lift.

One seat makes one step: it is shown the goalpost, and its proposals are accepted at 1..5 successes of 10 and rewarded with
R(p; 0.3, 5) there, -0.5 outside.

How we differ:
1. The seat is GASP's easy one, so its prompt asks for an easier variant of the goalpost; the paper prints no prompts.
2. Where a run with two seats is re-credited, both are rewarded so.
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def one_step_medium(rewards: RewardSettings) -> Gasp:
    """The teacher makes one step from a goalpost, of medium difficulty; the student learns from what it can reach."""
    return Gasp(
        rewards, EpisodePlan(guided=("easy",)), easy_band=(1, 5), easy_curve=(0.3, 5), hard_band=(1, 5), hard_curve=(0.3, 5)
    )
