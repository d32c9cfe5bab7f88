"""Settings of the rewards that the papers leave open."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from events.facts.values import Value, Verdict


class SettingsGroup(Value):
    """Base of all groups of settings; numbers must be finite, and a number may stand for a text, such as `devices = 0`."""

    model_config = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True, use_attribute_docstrings=True)


Reward = Annotated[float, Field(ge=-1000, le=1000)]


class RewardSettings(SettingsGroup):
    """Rewards that the paper leaves open; the bands and the teacher's curves belong to the recipe."""

    repeated: Reward = -0.5
    """Reward of a proposal that is too similar to an accepted question."""
    wrong: Reward = -0.5
    """Reward of an attempt that fails [AZR: -0.5]; one that passes gets 1."""
    malformed: Reward = -1.0
    """Reward of a completion that holds no answer in the asked form [AZR: -1]."""

    agreeing: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Fewest answers that a voted label needs for its question to earn the teacher 1; it earns 0 if all agree [SQLM's code:
    2, its paper: 1]."""

    def answer(self, verdict: Verdict) -> float:
        """The reward of an attempt with this verdict."""
        if verdict.outcome == "passed":
            return 1.0
        return self.malformed if verdict.outcome == "malformed" else self.wrong
