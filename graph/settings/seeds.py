"""Derives seeds from the run's seed and a path of names, so that no random choice depends on timing or on earlier draws."""

from __future__ import annotations

import hashlib
import random


def derive_seed(seed: int, *path: object) -> int:
    """A 63-bit seed for a path of names, e.g. `derive_seed(seed, "episode", 3, 12)`."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_rng(seed: int, *path: object) -> random.Random:
    """A random generator for a path of names."""
    return random.Random(derive_seed(seed, *path))  # noqa: S311 (draws, not secrets)
