"""SQLM: Self-Questioning Language Models, arXiv 2508.03682: self-play whose labels are the student's own majority.

The teacher writes a question on a topic; the student answers it N times. The label is the majority's output y_maj: an answer
gets 1[y = y_maj], the question 1 if 1 < #majority < N (the authors' code; their paper: 0 <), section 3. A proposal that is no
question is masked. GRPO over the completions of one prompt, for the teacher's proposals too; KL 0.001; the teacher learns from
every 5th iteration.

How we differ:
1. Questions are programs to be written, and a label is the outputs for all of the proposal's inputs. SQLM votes in arithmetic
   and algebra, and writes unit tests for code.
2. A proposal is validated as everywhere: its program, which labels nothing, must run on its inputs. So the questions are better
   than text alone would make them.
3. A tie has no label: it teaches the student nothing and earns the teacher 0. `verify.ties=first` does as the authors' code.
4. The teacher's step precedes the student's in an iteration.
5. The prompt set `pocket` shows an example of the topic, the same to all episodes of an iteration, since its weights cannot
   read a topic alone. So in the pocket world this is a variation of training questions, and not without data.
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

EPISODE_PLAN: Final = EpisodePlan(guided=(), topics=True, labels="vote", axes=("function",), rejection_sampling=False)
SETTINGS: Final = {"play.public_pairs": 0, "play.tasks": ("induction",), "learn.teaches_every": 5, "learn.kl": 0.001}


@dataclass(frozen=True)
class Sqlm:
    """SQLM, and its controls."""

    rewards: RewardSettings = field(default_factory=RewardSettings)
    plan: EpisodePlan = EPISODE_PLAN
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    advantage_estimator: EstimatorName = "grpo_by_prompt"
    form_alone: bool = False
    """Whether an answer is rewarded for its form, and not for its outputs."""

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band if `rewards.agreeing` answers or more agree, and not all."""
        if successes < self.rewards.agreeing:
            return "too_hard"
        return "too_easy" if successes == attempts else "in_band"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """1 in band, else 0."""
        return float(self.band(seat, successes, attempts) == "in_band")

    def rejection_reward(self, reason: Reason) -> float | None:
        """None: the proposal is masked."""
        return None

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 for an answer that agrees with the label (or, by its form alone, for one that holds a program), else 0."""
        return float(verdict.outcome != "malformed" if self.form_alone else verdict.outcome == "passed")


def sqlm(rewards: RewardSettings) -> Sqlm:
    """The teacher writes questions on topics; the student learns to answer as most of its answers do."""
    return Sqlm(rewards)
