"""The proof of a delivery: weights that are served say of a fixed text what the trainer's own say of it.

Law: nothing is sampled by weights that were not proved in this process. A difference is allowed as far as arithmetic can make
one; that nothing at all has changed by a delivery of other weights is no arithmetic. It delivers nothing.
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
"""Largest distance in nats of one token where both sides compute in float32."""
MEAN_LIMIT: Final = 0.1
"""Largest mean distance in nats otherwise; kernels in bfloat16 stay below it."""
CHANGED_LIMIT: Final = 1e-5
"""Distance in nats from which on the trainer's weights say something else than before, whatever devices told of them."""


@dataclass(frozen=True)
class LogprobDifference:
    """How far two tell the same text apart, in nats."""

    largest: float
    """In one token."""
    mean: float


def logprob_difference(one: Sequence[float], other: Sequence[float]) -> LogprobDifference:
    """How far apart two rows of logprobs are."""
    apart = [abs(mine - yours) for mine, yours in zip(one, other, strict=True)]
    # What is not a number is the largest.
    return LogprobDifference(max(apart, key=lambda far: (isnan(far), far)), sum(apart) / len(apart))


class WeightSyncChecker:
    """Proves deliveries, one after the other.

    Args:
        exact: whether both sides compute in float32.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._last: dict[str, tuple[PolicyProbed, tuple[float, ...]]] = {}

    def proved(self, policy: str) -> Digest | None:
        """The weights of a policy that were proved last."""
        return self._last[policy][0].digest if policy in self._last else None

    async def prove(self, policy: str, model: Model, probe: PolicyProbed) -> LogprobDifference:
        """Ask the model that was given a policy's weights what it says of their probe.

        Raises:
            ModelError: it says something else, or just what it said of the weights before.
        """
        said = await model.logprobs_of(probe.tokens)
        who = f"The model that was given the weights {probe.digest[:SHORT]} of the policy {policy}"
        if len(said) != len(probe.logprobs):
            raise ModelError(f"{who} tells {len(said)} logprobs of {len(probe.tokens)} tokens; restart its server")
        found = logprob_difference(said, probe.logprobs)
        far, limit, what = (
            (found.largest, TOKEN_LIMIT, "in one token") if self._exact else (found.mean, MEAN_LIMIT, "on average")
        )
        if isnan(far) or far > limit:
            raise ModelError(
                f"{who} does not serve them: its logprobs of the trainer's probe differ by {far:.3g} nats {what}, and {limit:g}"
                " are allowed; restart its server, then go on with --resume"
            )
        before = self._last.get(policy)
        if (
            before is not None
            and before[1] == said
            and logprob_difference(before[0].logprobs, probe.logprobs).largest > CHANGED_LIMIT
        ):
            raise ModelError(
                f"{who} still serves {before[0].digest[:SHORT]}: the probe's logprobs are, bit for bit, what they were before"
                " they were delivered; restart its server, then go on with --resume"
            )
        self._last[policy] = probe, said
        return found
