"""R-Tuning: instructing a model to say "I am unsure", arXiv 2311.09677: supervised learning that ends in a calibrated student.

The student answers every training question once, greedily. Those whose answer passed are the certain set D1, the others the
uncertain set D0 (section 2). Then it learns the right answer to each question, followed by "Are you sure ...? I am sure." in
D1 and "... I am unsure." in D0, by the mean negative log-likelihood of answer and certainty (section 2.3): one epoch, 4 texts a
step. Afterwards it is evaluated by the average precision of its answers, ranked by confidence and certainty.

How we differ:
1. Answers are programs, which tests judge, where the paper compares strings.
2. "sure" and "unsure" are scored as whole sentences, where the paper compares the probabilities of two tokens.
3. Confidence is the geometric mean over all tokens that were sampled of an answer, where the paper takes its first five.
4. The learning rate is that of `learn`, whose default is for the pocket model; the paper's 2e-5 is for 3B to 13B weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from events.facts.types import Reason
from events.facts.values import Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName
from graph.recipes.recipe import Band, EpisodePlan, GivenTexts, Survey
from graph.recipes.rewards import RewardSettings

EVERY_QUESTION: Final = 100_000
"""More real questions than any set has."""
SETTINGS: Final[Mapping[str, Any]] = {
    "play.iterations": 2,
    "play.practice": EVERY_QUESTION,
    "learn.groups_per_step": 4,
    "evaluate.certainty": True,
    "evaluate.attempts": 1,
    "evaluate.sampling.temperature": 0.0,
    "evaluate.sampling.max_tokens": 96,
}


@dataclass(frozen=True)
class Supervised:
    """A recipe without self-play and rewards: it learns texts."""

    plan: EpisodePlan
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    advantage_estimator: EstimatorName = "grpo"
    """Not used, since there are no rewards."""

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band: nothing is proposed."""
        return "in_band"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """0: there is no teacher."""
        return 0.0

    def rejection_reward(self, reason: Reason) -> float | None:
        """None: there is no teacher."""
        return None

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 for an answer that passed, else 0; used only where recorded attempts are re-credited."""
        return float(verdict.outcome == "passed")


def supervised(texts: GivenTexts, survey: Survey | None = None) -> Supervised:
    """The texts are learned, after one iteration in which the student answers if there is a survey."""
    learning = EpisodePlan(guided=(), axes=("function",), texts=texts)
    if survey is None:
        return Supervised(learning, {**SETTINGS, "play.iterations": 1})
    return Supervised(EpisodePlan(guided=(), axes=("function",), survey=survey, iterations=1, then=learning))


def r_tuning(rewards: RewardSettings) -> Supervised:
    """The student learns right answers and to say whether it is sure of them, by what it could answer before."""
    return supervised(GivenTexts(certain="passed"), Survey())
