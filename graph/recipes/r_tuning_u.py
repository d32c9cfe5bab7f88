"""R-Tuning-U: R-Tuning without looking at right answers to tell what is certain. arXiv 2311.09677.

The student answers every training question 10 times at temperature 0.7. The half of the questions whose answers have the
lower entropy is certain.

How we differ: two answers are equal if their programs differ in names, comments and layout only, where the paper compares
strings; an answer that holds no program equals no other.
"""

from __future__ import annotations

from graph.recipes.r_tuning import Supervised, supervised
from graph.recipes.recipe import GivenTexts, Survey
from graph.recipes.rewards import RewardSettings


def r_tuning_u(rewards: RewardSettings) -> Supervised:
    """As `r_tuning`, but the student is sure where its answers agree, whether they are right or not."""
    return supervised(GivenTexts(certain="agreeing"), Survey(attempts=10, temperature=0.7))
