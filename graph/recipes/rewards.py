"""Settings of the rewards that the papers leave open."""

from __future__ import annotations

from pydantic import ConfigDict

from events.facts.values import Value, Verdict


class SettingsGroup(Value):
    """A group of settings; numbers are finite, and a device may be written as one."""

    model_config = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True)


class RewardSettings(SettingsGroup):
    """Rewards that the paper leaves open; the bands and the teacher's curves belong to the recipe."""

    repeated: float = -0.5
    """For a proposal that is too similar to an accepted one."""
    wrong: float = -0.5
    """For an answer that fails [AZR: -0.5]; a passed one gets 1."""
    malformed: float = -1.0
    """For an answer that is none [AZR: -1]."""

    def answer(self, verdict: Verdict) -> float:
        """Of one answer."""
        if verdict.outcome == "passed":
            return 1.0
        return self.malformed if verdict.outcome == "malformed" else self.wrong
