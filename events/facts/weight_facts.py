"""Facts about weights on disk."""

from __future__ import annotations

from typing import Literal

from events.facts.fact import Fact
from events.facts.values import Digest


class WeightsPruned(Fact):
    """Weights were released by an update: they need not be on disk any more."""

    kind: Literal["weights_pruned"] = "weights_pruned"
    digests: tuple[Digest, ...]
    """Their digests, oldest first."""
