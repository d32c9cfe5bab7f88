"""The contract of a recipe: an algorithm by name, as pure functions from facts to rewards and credit.

Law: a recipe samples nothing, stores nothing and sees no tokens, so that a recorded run can be credited again under another
recipe. Its class defaults are the paper's setting; tests pin them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from events.types import Reason
from events.values import Phase, Role, Seat, Task, Verdict

Place = Literal["too_hard", "in_band", "too_easy"]
"""Where a pass rate lies relative to the band of its seat."""


@dataclass(frozen=True)
class Rewarded:
    """The rewards of one group: all completions of one prompt."""

    phase: Phase
    role: Role
    task: Seat | Task
    rewards: tuple[float, ...]


class Recipe(Protocol):
    """An algorithm. Implementations in `graph/recipes/`, one a file."""

    @property
    def practices(self) -> bool:
        """Whether real questions are trained on (real-data RL)."""
        ...

    def place(self, seat: Seat, successes: int, attempts: int) -> Place:
        """Where a proposal with this pass rate lies; only those in band are accepted."""
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

    def credit(self, groups: Sequence[Rewarded]) -> list[tuple[float, ...]]:
        """Advantages of all groups of one iteration, in order, one number a completion."""
        ...
