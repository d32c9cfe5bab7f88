"""AZR: Absolute Zero Reasoner, arXiv 2505.03335, sections 3.1 to 3.3: self-play that nothing guides.

The teacher's open seat is shown K = 6 references from a buffer and proposes one question for one of the three tasks; the
student tries it in that form. Reward: 1 - r for a mean solve rate r strictly between 0 and 1, -0.5 at 0 and 1, -1 for what
cannot be asked; answers 1, -0.5, -1. Whatever can be asked enters the buffer. Advantages by TRR++, in six groups.

How we differ:
1. The buffer begins with up to 256 of the world's training questions that have a program; AZR's begins with 256 triplets that
   the base model wrote. In so far this is not without data.
2. There is one buffer for all tasks. The induction stream writes a program of its own, as the other two do; AZR's is given one.
3. A question has as many inputs as `play.pairs` says, of which deduction and abduction ask for one; AZR's has one there, and 10
   in induction. The task is drawn for each episode; AZR has as many of each.
4. r is measured by `play.attempts` answers (AZR: 8), and these are what the student learns from; AZR samples others for that,
   also for older questions of the buffer.
5. Two optimizer steps an iteration, proposals and answers; AZR cuts all six groups together into three.
6. Prompts are ours. The prompt set `pocket` shows the first reference only, in the hard seat's form (K = 1: a variation),
   because its weights never read any other. Of 160 proposals from training questions 0.66 can be asked.
7. Completions are normalised, not tokens. No entropy bonus unless `learn.entropy` is set (AZR: 0.001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from events.facts.types import Reason
from events.facts.values import Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName
from graph.recipes.recipe import Band, EpisodePlan
from graph.recipes.rewards import RewardSettings

EPISODE_PLAN: Final = EpisodePlan(guided=(), references=6, seeds=256, axes=("function",), rejection_sampling=False)


@dataclass(frozen=True)
class Azr:
    """Absolute Zero."""

    rewards: RewardSettings = field(default_factory=RewardSettings)
    plan: EpisodePlan = EPISODE_PLAN
    settings: Mapping[str, Any] = field(default_factory=dict)
    advantage_estimator: EstimatorName = "trr_plus_plus"
    unlearnable: float = -0.5
    unfit: float = -1.0

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band if some attempts pass and some fail."""
        if successes == 0:
            return "too_hard"
        return "too_easy" if successes == attempts else "in_band"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """1 - the mean solve rate, -0.5 where that is 0 or 1."""
        return 1 - successes / attempts if self.band(seat, successes, attempts) == "in_band" else self.unlearnable

    def rejection_reward(self, reason: Reason) -> float:
        """-1; AZR knows no novelty, so that reason occurs only when a run of another recipe is re-credited."""
        return self.rewards.repeated if reason == "not_novel" else self.unfit

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 if passed; for wrong and malformed answers see `RewardSettings`."""
        return self.rewards.answer(verdict)


def azr(rewards: RewardSettings) -> Azr:
    """The teacher writes questions of its own, looking at earlier ones; the student learns from all that can be asked."""
    return Azr(rewards)
