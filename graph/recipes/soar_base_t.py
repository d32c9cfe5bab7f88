"""SOAR with an untrained teacher, the control Base-T of arXiv 2601.18778.

Sets are tried and students promoted as in `soar`; the teacher stays what it was.

How we differ: as `soar`.
"""

from __future__ import annotations

from graph.recipes.rewards import RewardSettings
from graph.recipes.soar import SETTINGS, Soar


def soar_base_t(rewards: RewardSettings) -> Soar:
    """As `soar`, but the teacher is never taught."""
    return Soar(rewards, settings={**SETTINGS, "learn.teaches_every": 0})
