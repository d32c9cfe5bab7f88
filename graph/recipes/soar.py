"""SOAR: teaching models to teach themselves, arXiv 2601.18778: a teacher is paid by what its questions do for a student.

The teacher writes sets of questions on topics and never sees a hard question. For each set X_k, students are trained on it by
RLOO from the baseline, 10 steps of 8 questions, and examined on Q_R, questions of the hard set, greedily:
R(X_k) = Acc(trained; Q_R) - Acc(baseline; Q_R), averaged over the students of the set (section 3). Every proposal of X_k earns
R(X_k); RLOO over the sets. If the mean of R over the last 3 iterations exceeds 0.01, the student with the median gain on the
best set becomes the baseline (algorithm 1); otherwise all students are given up. Proposals are repeated until they are
questions, and those that are not are masked.

How we differ:
1. Questions are programs to be written. A label is what the proposal's program gives, so that it fits the program, if not the
   statement; the paper's answers are the teacher's own and mostly wrong (32.8 % right).
2. All attempts of a trial are sampled by the baseline; PPO's ratio corrects for the steps since. The paper samples anew for
   each step.
3. Students of a set learn from different attempts at equal questions, in one order; the paper trains them apart.
4. An attempt earns 1 or 0; the paper grades form and partly right answers (120, 20, 10, 0).
5. The 3 iterations are those since the last promotion, since gains over another baseline say nothing of this one. The paper
   does not say.
6. Sizes are for minutes on a CPU (4 sets of 16 questions, 8 attempts, 1 student, 32 goalposts, 20 iterations); the paper has 4
   sets of 64, 32 attempts, 4 students, 64 goalposts and 200 iterations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from events.facts.types import Reason
from events.facts.values import Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName
from graph.recipes.recipe import Band, EpisodePlan, Trials
from graph.recipes.rewards import RewardSettings

EPISODE_PLAN: Final = EpisodePlan(guided=(), topics=True, trials=Trials(), axes=("function",))
SETTINGS: Final = {
    "policies": "separate",
    "play.iterations": 20,
    "play.episodes": 64,
    "play.attempts": 8,
    "play.max_attempts": 10,
    "play.tasks": ("induction",),
    "verify.similarity": 1.0,
    "learn.kl": 0.001,
}


@dataclass(frozen=True)
class Soar:
    """SOAR, and its controls."""

    rewards: RewardSettings = field(default_factory=RewardSettings)
    plan: EpisodePlan = EPISODE_PLAN
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    advantage_estimator: EstimatorName = "rloo_by_set"

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band always: whatever can be asked is in its set."""
        return "in_band"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """Learnability, which counts where the gain of a set does not: 1 - the pass rate, but 0 where that is 0."""
        return 1 - successes / attempts if successes else 0.0

    def rejection_reward(self, reason: Reason) -> float | None:
        """None: the proposal is masked."""
        return None

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 if passed, else 0."""
        return float(verdict.outcome == "passed")


def soar(rewards: RewardSettings) -> Soar:
    """The teacher writes sets of questions and earns what training on them gains a student on the goalposts."""
    return Soar(rewards)
