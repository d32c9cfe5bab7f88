"""GASP: guided asymmetric self-play, arXiv 2603.15957.

The teacher's easy seat turns a goalpost into a lemma (accepted at 3..7 successes of 10), its hard seat turns the lemma into a
lift (1..5 of 10), and the student learns from both. Rewards: r_lemma(p) = [4p(1-p)]^5 and r_lift(p) = 10p((1-p)/0.9)^9 inside
the band, -0.5 outside, -1 for a proposal that cannot be asked. Advantages by TRR++. Sections 3.1 to 3.5.

How we differ:
1. All phases of an iteration play with the same weights and are learned one after the other at its end; the paper updates after
   each phase.
2. The student is trained on accepted questions only, though every proposal is rewarded; the paper only says "valid".
3. A proposal that is too similar to an accepted one is rewarded with -0.5, which the paper does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from events.facts.types import Reason
from events.facts.values import Level, Seat, Task, Verdict
from events.pure.advantages import EstimatorName
from graph.recipes.recipe import Band, EpisodePlan
from graph.recipes.rewards import RewardSettings


def reward_curve(p: float, a: float, b: float) -> float:
    """R(p; a, b) = [(p/a) ((1-p)/(1-a))^((1-a)/a)]^b, which is 1 at p = a. Lemma: (0.5, 5); lift: (0.1, 1)."""
    return float(((p / a) * ((1 - p) / (1 - a)) ** ((1 - a) / a)) ** b)


@dataclass(frozen=True)
class Gasp:
    """GASP, and recipes that differ from it in numbers. Bands are in tenths, as integers, so that no rounding moves an edge."""

    rewards: RewardSettings = field(default_factory=RewardSettings)
    plan: EpisodePlan = field(default_factory=EpisodePlan)
    settings: Mapping[str, Any] = field(default_factory=dict)
    advantage_estimator: EstimatorName = "trr_plus_plus_and_grpo"
    easy_band: tuple[int, int] = (3, 7)
    hard_band: tuple[int, int] = (1, 5)
    easy_curve: tuple[float, float] = (0.5, 5)
    hard_curve: tuple[float, float] = (0.1, 1)
    outside: float = -0.5
    unfit: float = -1.0

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """In band if low/10 <= successes/attempts <= high/10, in integers."""
        low, high = self.easy_band if seat == "easy" else self.hard_band
        if 10 * successes < low * attempts:
            return "too_hard"
        return "too_easy" if 10 * successes > high * attempts else "in_band"

    def teacher_reward(self, seat: Seat, successes: int, attempts: int, level: Level | None = None) -> float:
        """The seat's curve inside its band, -0.5 outside. Section 3.3."""
        if self.band(seat, successes, attempts) != "in_band":
            return self.outside
        return reward_curve(successes / attempts, *(self.easy_curve if seat == "easy" else self.hard_curve))

    def rejection_reward(self, reason: Reason) -> float:
        """-1 for an invalid proposal; `rewards.repeated` for one that is not novel."""
        return self.rewards.repeated if reason == "not_novel" else self.unfit

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """1 if passed; otherwise `rewards.wrong` or `rewards.malformed` (as in AZR, which GASP builds on)."""
        return self.rewards.answer(verdict)


def gasp(rewards: RewardSettings) -> Gasp:
    """The teacher writes easier lemmas of goalposts and harder lifts of lemmas; the student learns from those it can reach."""
    return Gasp(rewards)
