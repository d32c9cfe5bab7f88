"""Micro-batches: completions sorted by length, each prompt once, within a budget of tokens.

Law: deterministic, and nothing is ever cut. Completions of one prompt share its row, because a group repeats its prompt
many times and the model need not read it again. Padding stands on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.credited_samples import Credited

_Number = TypeVar("_Number", bound=np.generic)
MIN_SPLIT_TOKENS: Final = 2048
"""Padded tokens from which on a batch may be as well cut in two."""


@dataclass(frozen=True)
class MicroBatch:
    """B completions of up to T tokens, on Q prompts of up to P tokens."""

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
    logprobs: NDArray[np.float32]
    """Shape [B, T]: as sampled; 0 on padding."""
    advantages: NDArray[np.float32]
    """Shape [B]."""
    temperature: float

    @property
    def tokens(self) -> int:
        """Completion tokens."""
        return int(self.mask.sum())


def micro_batches_of(credited: Sequence[Credited], batch_tokens: int, *, shared: bool = True) -> list[MicroBatch]:
    """All completions in batches of at most `batch_tokens` padded tokens, or of one completion where it is longer.

    Batches that are large enough to keep a device busy end early where completions get much longer, which saves padding.

    Args:
        credited: the completions.
        batch_tokens: the budget.
        shared: whether a prompt is read, and counts, once for all its completions in a batch; else with each of them.
    """
    if not shared:
        return _with_own_prompts(credited, batch_tokens)
    order = sorted(range(len(credited)), key=lambda n: (credited[n].sample.temperature, len(credited[n].sample.ids), n))
    found: list[list[Credited]] = []
    prompts: dict[bytes, int] = {}
    padded = 0
    for one in (credited[n] for n in order):
        length, before = len(one.sample.ids), padded
        prompts[_prompt_key(one)] = len(one.sample.prompt_ids)
        padded = len(prompts) * max(prompts.values()) + (len(found[-1]) + 1 if found else 1) * length
        other = found and one.sample.temperature != found[-1][0].sample.temperature
        longer = found and before >= MIN_SPLIT_TOKENS and length > 2 * len(found[-1][0].sample.ids)
        if not found or other or longer or padded > batch_tokens:
            found.append([])
            prompts = {_prompt_key(one): len(one.sample.prompt_ids)}
            padded = len(one.sample.prompt_ids) + length
        found[-1].append(one)
    return [_pad(rows) for rows in found]


def _with_own_prompts(credited: Sequence[Credited], batch_tokens: int) -> list[MicroBatch]:
    def length(n: int) -> int:
        return len(credited[n].sample.prompt_ids) + len(credited[n].sample.ids)

    found: list[list[Credited]] = []
    for n in sorted(range(len(credited)), key=lambda n: (credited[n].sample.temperature, length(n), n)):
        one = credited[n]
        other = found and one.sample.temperature != found[-1][0].sample.temperature
        if not found or other or (len(found[-1]) + 1) * length(n) > batch_tokens:
            found.append([])
        found[-1].append(one)
    return [_pad(rows) for rows in found]


def _prompt_key(one: Credited) -> bytes:
    return one.sample.prompt_ids.tobytes()


def _pad(rows: Sequence[Credited]) -> MicroBatch:
    prompts = {_prompt_key(one): one.sample.prompt_ids for one in rows}
    place = {key: n for n, key in enumerate(prompts)}
    return MicroBatch(
        prompts=_matrix(list(prompts.values()), np.int64),
        lengths=np.asarray([len(ids) for ids in prompts.values()], np.int64),
        prompt=np.asarray([place[_prompt_key(one)] for one in rows], np.int64),
        ids=_matrix([one.sample.ids for one in rows], np.int64),
        mask=_matrix([np.ones_like(one.sample.ids) for one in rows], np.int64),
        logprobs=_matrix([one.sample.logprobs for one in rows], np.float32),
        advantages=np.asarray([one.advantage for one in rows], np.float32),
        temperature=rows[0].sample.temperature,
    )


def _matrix(rows: Sequence[NDArray[Any]], kind: type[_Number]) -> NDArray[_Number]:
    found = np.zeros((len(rows), max(map(len, rows))), kind)
    for n, row in enumerate(rows):
        found[n, : len(row)] = row
    return found
