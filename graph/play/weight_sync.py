"""Weight-sync check: compares the logprobs that a model server gives a fixed text with the trainer's.

Guarantees: a difference beyond what rounding explains is an error, and so is a server whose logprobs did not change at all when
the weights did.
Not responsible for: sending the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

from events.facts.digests import SHORT
from events.facts.errors import ModelError
from events.facts.types import PolicyProbed
from events.facts.values import Digest
from roles.model import Model

TOKEN_LIMIT: Final = 1e-3
"""Largest allowed difference in nats of one token's logprob where both sides compute in float32."""
MEAN_LIMIT: Final = 0.1
"""Largest allowed mean difference in nats otherwise; kernels in bfloat16 stay below it."""
CHANGED_LIMIT: Final = 1e-5
"""Difference in nats above which the trainer's logprobs before and after an update are different beyond rounding."""


@dataclass(frozen=True)
class LogprobDifference:
    """How far two logprobs of the same tokens are apart, in nats."""

    largest: float
    """Of one token; NaN if any is."""
    mean: float


def logprob_difference(served: Sequence[float], expected: Sequence[float]) -> LogprobDifference:
    """The difference between two rows of logprobs of equal length."""
    differences = [abs(mine - other) for mine, other in zip(served, expected, strict=True)]
    # NaN compares with nothing, but must win here.
    return LogprobDifference(max(differences, key=lambda gap: (isnan(gap), gap)), sum(differences) / len(differences))


class WeightSyncChecker:
    """Checks each sync of weights, and remembers the last one; `exact`: server and trainer both compute in float32."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._last: dict[str, tuple[PolicyProbed, tuple[float, ...]]] = {}

    def checked(self, policy: str) -> Digest | None:
        """The weights of a policy that passed the check last."""
        return self._last[policy][0].digest if policy in self._last else None

    async def check(self, policy: str, model: Model, probe: PolicyProbed) -> LogprobDifference:
        """Compare a model's logprobs with the trainer's; ModelError if they differ too much, or are those of older weights."""
        served = await model.logprobs_of(probe.tokens)
        who = f"The model that was given the weights {probe.digest[:SHORT]} of the policy {policy}"
        if len(served) != len(probe.logprobs):
            raise ModelError(f"{who} returns {len(served)} logprobs for {len(probe.tokens)} tokens; restart its server.")
        difference = logprob_difference(served, probe.logprobs)
        # In bfloat16 rounding alone can move a single token far, but not the mean.
        gap, limit, what = (
            (difference.largest, TOKEN_LIMIT, "in one token") if self._exact else (difference.mean, MEAN_LIMIT, "on average")
        )
        if isnan(gap) or gap > limit:
            raise ModelError(
                f"{who} does not serve them: its logprobs of the probe differ from the trainer's by {gap:.3g} nats {what}, and"
                f" {limit:g} are allowed; restart its server, then go on with --resume."
            )
        before = self._last.get(policy)
        # Close enough to both: bfloat16 hides a small update, so a server that still holds the old weights passes the limit.
        # But then its own logprobs did not change by a single bit, although the trainer's did.
        unchanged = before is not None and before[1] == served
        if before and unchanged and logprob_difference(before[0].logprobs, probe.logprobs).largest > CHANGED_LIMIT:
            raise ModelError(
                f"{who} still serves {before[0].digest[:SHORT]}: its logprobs of the probe are, bit for bit, those from before"
                " the sync; restart its server, then go on with --resume."
            )
        self._last[policy] = probe, served
        return difference
