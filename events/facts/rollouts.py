"""Token arrays as blobs: prompt ids, and ids and logprobs of each completion, exactly as sampled.

Format: safetensors with four arrays: `prompt` int32 [P], `ids` int32 [T], `logprobs` float32 [T] (natural log, under the
sampling distribution), `lengths` int32 [N] with sum T. It needs no tokenizer and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from events.facts.errors import LogCorrupt


class Rollouts(NamedTuple):
    """All completions of one prompt."""

    prompt: NDArray[np.int32]
    """Shape [P]."""
    ids: list[NDArray[np.int32]]
    """N arrays of shape [T_n]."""
    logprobs: list[NDArray[np.float32]]
    """N arrays of shape [T_n]."""


def pack_rollouts(prompt: Sequence[int], ids: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]]) -> bytes:
    """Bytes of a `Rollouts` blob, for N completions.

    Raises:
        ValueError: ids and logprobs of a completion differ in length.
    """
    lengths = [len(row) for row in ids]
    if lengths != [len(row) for row in logprobs]:
        raise ValueError("Every completion needs as many logprobs as ids.")
    return save(
        {
            "prompt": np.asarray(prompt, np.int32),
            "ids": np.asarray([token for row in ids for token in row], np.int32),
            "logprobs": np.asarray([value for row in logprobs for value in row], np.float32),
            "lengths": np.asarray(lengths, np.int32),
        }
    )


def unpack_rollouts(blob: bytes) -> Rollouts:
    """The completions in a blob.

    Raises:
        LogCorrupt: the arrays do not fit together.
    """
    try:
        arrays = load(blob)
        prompt, ids, logprobs, lengths = (arrays[name] for name in ("prompt", "ids", "logprobs", "lengths"))
    except (SafetensorError, KeyError) as error:
        raise LogCorrupt(f"A rollout blob holds no token arrays ({error}); the log is damaged, run verify.") from error
    if int(lengths.sum()) != len(ids) or len(ids) != len(logprobs):
        raise LogCorrupt("A rollout blob's lengths do not add up to its tokens; the log is damaged, run verify.")
    cuts = np.cumsum(lengths)[:-1]
    return Rollouts(prompt, np.split(ids, cuts), np.split(logprobs, cuts))
