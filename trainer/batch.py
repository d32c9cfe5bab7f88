"""Micro-batches: completions sorted by length and padded on the right, within a budget of tokens.

Law: deterministic, and a completion is never cut. Each row is a prompt and its completion without a gap, so that all
padding stands at the end, where a causal model cannot see it from any real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.credit import Credited


@dataclass(frozen=True)
class Batch:
    """B rows of L tokens. The first `shared` tokens of every row belong to its prompt; S = L - shared."""

    ids: NDArray[np.int64]
    """Shape [B, L]."""
    shared: int
    scored: NDArray[np.int64]
    """Shape [B, S]: 1 on completion tokens, 0 on the rest of the prompt and on padding."""
    logprobs: NDArray[np.float32]
    """Shape [B, S]: of the completion tokens, as sampled; 0 elsewhere."""
    advantages: NDArray[np.float32]
    """Shape [B]."""
    temperature: float

    @property
    def tokens(self) -> int:
        """Completion tokens."""
        return int(self.scored.sum())


def batches(credited: Sequence[Credited], batch_tokens: int) -> list[Batch]:
    """All completions in batches of at most `batch_tokens` padded tokens, or of one completion where it is longer."""
    order = sorted(range(len(credited)), key=lambda n: (credited[n].sample.temperature, _length(credited[n]), n))
    rows: list[Credited] = []
    found = []
    for one in (credited[n] for n in order):
        new = rows and one.sample.temperature != rows[0].sample.temperature
        if new or (len(rows) + 1) * _length(one) > batch_tokens:
            found.append(rows)
            rows = []
        rows.append(one)
    found.append(rows)
    return [_pad(rows) for rows in found if rows]


def _length(one: Credited) -> int:
    return len(one.sample.prompt_ids) + len(one.sample.ids)


def _pad(rows: Sequence[Credited]) -> Batch:
    width = max(_length(one) for one in rows)
    shared = min(len(one.sample.prompt_ids) for one in rows)
    ids = np.zeros((len(rows), width), np.int64)
    scored = np.zeros((len(rows), width), np.int64)
    logprobs = np.zeros((len(rows), width), np.float32)
    for n, one in enumerate(rows):
        start, end = len(one.sample.prompt_ids), _length(one)
        ids[n, :start] = one.sample.prompt_ids
        ids[n, start:end] = one.sample.ids
        scored[n, start:end] = 1
        logprobs[n, start:end] = one.sample.logprobs
    advantages = np.asarray([one.advantage for one in rows], np.float32)
    return Batch(ids, shared, scored[:, shared:], logprobs[:, shared:], advantages, rows[0].sample.temperature)
