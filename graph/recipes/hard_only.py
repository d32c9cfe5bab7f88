"""Hard-Only, the baseline of arXiv 2601.18778: RLOO on the goalposts alone.

What SOAR's teacher has to beat, since it uses the same questions as a reward only. Compare at equal samples (`play.samples`),
those of SOAR's trials included.

How we differ: 24 goalposts an iteration, drawn without replacement, in three steps of 8. The group is 32 attempts as in the
paper, which also tries 128 (`play.practice_attempts`).
"""

from __future__ import annotations

from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings
from graph.recipes.soar import Soar


def hard_only(rewards: RewardSettings) -> Soar:
    """The student does RL on the goalposts themselves; there is no teacher."""
    settings = {"practice": "goalposts", "play.practice_attempts": 32, "learn.groups_per_step": 8, "learn.kl": 0.001}
    return Soar(rewards, EpisodePlan(guided=(), real_data=True), settings)
