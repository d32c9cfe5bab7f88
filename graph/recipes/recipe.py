"""The contract of a recipe: an algorithm by name, as an episode plan and pure functions from facts to rewards and advantages.

A recipe samples nothing, stores nothing and sees no tokens, so a recorded run can be credited again under another recipe.
Defaults are the paper's (arXiv 2603.15957).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from events.facts.types import Reason
from events.facts.values import Axis, Seat, Task, Verdict
from events.pure.advantages import RewardGroup

Band = Literal["too_hard", "in_band", "too_easy"]
"""Where a pass rate lies relative to the band of its seat."""


@dataclass(frozen=True)
class EpisodePlan:
    """What is played in an iteration, and who learns from it. GASP's unless said otherwise."""

    guided: tuple[Seat, ...] = ("easy", "hard")
    """Seats that propose, one after the other, in an episode that a goalpost guides: the easy seat from the goalpost, the hard
    one from the lemma. Empty: there are no such episodes."""
    hard_seat_sees_goalpost: bool = False
    """Whether the hard seat is shown the goalpost too."""
    references: int = 0
    """Questions that the open seat is shown in an episode without a goalpost, drawn from seeds and accepted open questions. 0:
    there are no such episodes."""
    seeds: int = 0
    """Training questions with a program, at most, that there are to draw from at the start."""
    real_data: bool = False
    """Whether real questions are trained on (real-data RL)."""
    axes: tuple[Axis, ...] = ("io", "function")
    """Axes that an episode's is drawn from."""
    rejection_sampling: bool = True
    """Whether a seat proposes until a proposal is novel and in its band, and nothing else is accepted (rejection sampling).
    Otherwise it proposes once, and whatever can be asked is accepted."""
    student_trains_on: tuple[Seat, ...] = ("easy", "hard", "open")
    """Seats whose accepted questions the student learns from."""
    learns: bool = True
    """Whether weights are updated."""

    def seats(self, purpose: Literal["guided", "unguided", "practice"]) -> tuple[Seat, ...]:
        """Seats that propose, one after the other, in such an episode."""
        match purpose:
            case "guided":
                return self.guided
            case "unguided":
                return ("open",) if self.references else ()
            case "practice":
                return ()


class Recipe(Protocol):
    """An algorithm. Implementations in `graph/recipes/`, one a file."""

    @property
    def plan(self) -> EpisodePlan:
        """What is played."""
        ...

    def band(self, seat: Seat, successes: int, attempts: int) -> Band:
        """Where a proposal with this pass rate lies; where the plan selects, only those in band are accepted."""
        ...

    def teacher_reward(self, seat: Seat, successes: int, attempts: int) -> float:
        """Reward of a proposal whose pass rate was measured, inside or outside its band."""
        ...

    def rejection_reward(self, reason: Reason) -> float:
        """Reward of a proposal that was rejected before anyone tried it."""
        ...

    def student_reward(self, verdict: Verdict, task: Task) -> float:
        """Reward of one answer."""
        ...

    def credit(self, groups: Sequence[RewardGroup]) -> list[tuple[float, ...]]:
        """Advantages of all groups of one iteration, in order, one number a completion."""
        ...
