"""R-Tuning-R: R-Tuning with a refusal in the place of answers that the student did not know. arXiv 2311.09677.

How we differ: the authors' code has 16 refusals; these are our own words.
"""

from __future__ import annotations

from typing import Final

from graph.recipes.r_tuning import Supervised, supervised
from graph.recipes.recipe import GivenTexts, Survey
from graph.recipes.rewards import RewardSettings

REFUSALS: Final = (
    "I do not know.",
    "I am not sure how to do this.",
    "I cannot answer this with what I know.",
    "This is beyond what I know.",
)


def r_tuning_r(rewards: RewardSettings) -> Supervised:
    """As `r_tuning`, but the student learns to refuse what it could not answer, and says nothing of how sure it is."""
    return supervised(GivenTexts(certain="passed", refusals=REFUSALS), Survey())
