"""Micro-batches: rollouts sorted by length and padded on the right, within a budget of tokens.

Guarantees: deterministic; no completion is truncated. A prompt has one row for all its completions in a micro-batch, so that
the model reads it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.replay import Rollout

_Number = TypeVar("_Number", bound=np.generic)
MIN_SPLIT_TOKENS: Final = 2048
"""Padded tokens that keep a device busy: from here on a micro-batch may end early to save padding."""


@dataclass(frozen=True)
class MicroBatch:
    """B completions of up to T tokens, to Q prompts of up to P tokens."""

    prompts: NDArray[np.int64]
    """Shape [Q, P]."""
    lengths: NDArray[np.int64]
    """Shape [Q]: tokens of each prompt."""
    prompt: NDArray[np.int64]
    """Shape [B]: row of each completion's prompt."""
    ids: NDArray[np.int64]
    """Shape [B, T]."""
    mask: NDArray[np.int64]
    """Shape [B, T]: 1 on completion tokens, 0 on padding."""
    sampled: NDArray[np.int64]
    """Shape [B, T]: 1 on tokens that were sampled, 0 on those that were given and on padding."""
    logprobs: NDArray[np.float32]
    """Shape [B, T]: natural-log probabilities as sampled; 0 on padding."""
    advantages: NDArray[np.float32]
    """Shape [B]."""
    temperature: float

    @property
    def tokens(self) -> int:
        """Number of sampled tokens."""
        return int(self.sampled.sum())


def micro_batches_of(rollouts: Sequence[Rollout], batch_tokens: int, *, shared: bool = True) -> list[MicroBatch]:
    """All rollouts in micro-batches of at most `batch_tokens` padded tokens, or of one rollout where that is longer.

    A `shared` prompt is read, and counts, once for all its completions in a micro-batch; else with each of them.
    """
    if not shared:
        return _with_own_prompts(rollouts, batch_tokens)
    batches: list[list[Rollout]] = []
    prompts: dict[bytes, int] = {}
    padded = 0
    for rollout in sorted(rollouts, key=lambda rollout: (rollout.temperature, len(rollout.ids))):
        length, before = len(rollout.ids), padded
        prompts[_prompt_key(rollout)] = len(rollout.prompt_ids)
        padded = len(prompts) * max(prompts.values()) + (len(batches[-1]) + 1 if batches else 1) * length
        other = batches and rollout.temperature != batches[-1][0].temperature
        # The device is busy from here on, and rows of twice the length would make the shortest ones half padding.
        longer = batches and before >= MIN_SPLIT_TOKENS and length > 2 * len(batches[-1][0].ids)
        if not batches or other or longer or padded > batch_tokens:
            batches.append([])
            prompts = {_prompt_key(rollout): len(rollout.prompt_ids)}
            padded = len(rollout.prompt_ids) + length
        batches[-1].append(rollout)
    return [_pad(rows) for rows in batches]


def _with_own_prompts(rollouts: Sequence[Rollout], batch_tokens: int) -> list[MicroBatch]:
    def length(rollout: Rollout) -> int:
        return len(rollout.prompt_ids) + len(rollout.ids)

    batches: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: (rollout.temperature, length(rollout))):
        other = batches and rollout.temperature != batches[-1][0].temperature
        if not batches or other or (len(batches[-1]) + 1) * length(rollout) > batch_tokens:
            batches.append([])
        batches[-1].append(rollout)
    return [_pad(rows) for rows in batches]


def _prompt_key(rollout: Rollout) -> bytes:
    return rollout.prompt_ids.tobytes()


def _pad(rows: Sequence[Rollout]) -> MicroBatch:
    prompts = {_prompt_key(rollout): rollout.prompt_ids for rollout in rows}
    row_of = {key: n for n, key in enumerate(prompts)}
    return MicroBatch(
        prompts=_matrix(list(prompts.values()), np.int64),
        lengths=np.asarray([len(ids) for ids in prompts.values()], np.int64),
        prompt=np.asarray([row_of[_prompt_key(rollout)] for rollout in rows], np.int64),
        ids=_matrix([rollout.ids for rollout in rows], np.int64),
        mask=_matrix([np.ones_like(rollout.ids) for rollout in rows], np.int64),
        sampled=_matrix([rollout.sampled for rollout in rows], np.int64),
        logprobs=_matrix([rollout.logprobs for rollout in rows], np.float32),
        advantages=np.asarray([rollout.advantage for rollout in rows], np.float32),
        temperature=rows[0].temperature,
    )


def _matrix(rows: Sequence[NDArray[Any]], kind: type[_Number]) -> NDArray[_Number]:
    """Rows [T] of different lengths as one array [B, T], padded with zeros on the right."""
    matrix = np.zeros((len(rows), max(map(len, rows))), kind)
    for n, row in enumerate(rows):
        matrix[n, : len(row)] = row
    return matrix
