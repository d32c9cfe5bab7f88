"""GASP whose hard seat is shown the goalpost beside the lemma: an ablation that arXiv 2603.15957 lacks.

The paper hides the goalpost from the hard seat, so that difficulty grows from the student's frontier and does not copy surface
features (section 3.1), and never tries the other.

How we differ:
1. The hard seat sees the goalpost's statement, not its pairs.
2. The prompt set `pocket` shows it in a form that its weights never read: of 160 proposals 0.69 can be asked, as without it
   (0.66), but the statements of fewer of them mean what their programs do (0.78 against 0.91).
"""

from __future__ import annotations

from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.recipes.rewards import RewardSettings


def goalpost_shown_to_lift(rewards: RewardSettings) -> Gasp:
    """As `gasp`, but the hard seat is shown the goalpost too."""
    return Gasp(rewards, EpisodePlan(hard_seat_sees_goalpost=True))
