"""Settings of trials: short trainings of a student on a set of proposed questions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from graph.recipes.rewards import SettingsGroup
from graph.settings.number_types import PositiveInt


class TrialSettings(SettingsGroup):
    """How sets of questions are tried on the student, by recipes that do. Numbers marked [paper] are SOAR's."""

    sets: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Sets that the episodes of an iteration are divided into [paper: 4, of 64 questions]."""
    students: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Students that are tried on each set, each on its part of the attempts at a question [paper: 4]."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Optimizer steps of a trial [paper: 10]; its batches come again where they are fewer."""
    later_steps: Annotated[int, Field(ge=1, le=10_000)] = 15
    """Optimizer steps of a trial once a student was promoted [paper: 15]."""
    questions_per_step: PositiveInt = 8
    """Questions of the set in one step [paper: 8]."""
    questions: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Goalposts, drawn anew for each iteration, on which students are examined before and after [paper: 64]; at most half of
    all goalposts."""
    window: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Iterations since the last promotion over which the gain is averaged to decide on the next one [paper: 3]."""
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.01
    """A student is promoted if that average exceeds this accuracy [paper: 0.01]."""
