"""Token arrays as blobs: prompt ids, and ids and logprobs of each completion, exactly as sampled.

Format: safetensors with four arrays: `prompt` int32 [P], `ids` int32 [T], `logprobs` float32 [T] (natural log, under the
sampling distribution), `lengths` int32 [N] with sum T; and where tokens were given instead of sampled a fifth, `sampled` bool
[T]. It needs no tokenizer and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from events.facts.errors import LogCorrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Rollouts(NamedTuple):
    """All completions of one prompt."""

    prompt: NDArray[np.int32]
    """Shape [P]."""
    ids: list[NDArray[np.int32]]
    """N arrays of shape [T_n]."""
    logprobs: list[NDArray[np.float32]]
    """N arrays of shape [T_n]; 0 where the token was given."""
    sampled: list[NDArray[np.bool_]]
    """N arrays of shape [T_n]: False where the token was given."""


def pack_rollouts(
    prompt: Sequence[int],
    ids: Sequence[Sequence[int]],
    logprobs: Sequence[Sequence[float]],
    sampled: Sequence[Sequence[bool]] = (),
) -> bytes:
    """Bytes of a `Rollouts` blob, for N completions; in `sampled`, an empty row stands for one without given tokens.

    Raises:
        ValueError: ids, logprobs and marks of a completion differ in length.
    """
    import numpy as np
    from safetensors.numpy import save

    lengths = [len(row) for row in ids]
    if lengths != [len(row) for row in logprobs]:
        raise ValueError("Every completion needs as many logprobs as ids.")
    arrays: dict[str, NDArray[Any]] = {
        "prompt": np.asarray(prompt, np.int32),
        "ids": np.asarray([token for row in ids for token in row], np.int32),
        "logprobs": np.asarray([value for row in logprobs for value in row], np.float32),
        "lengths": np.asarray(lengths, np.int32),
    }
    if any(sampled):
        rows = [row or [True] * length for row, length in zip(sampled, lengths, strict=True)]
        if [len(row) for row in rows] != lengths:
            raise ValueError("Every completion needs as many marks of sampled tokens as ids.")
        arrays["sampled"] = np.asarray([mark for row in rows for mark in row], np.bool_)
    return save(arrays)


def unpack_rollouts(blob: bytes) -> Rollouts:
    """The completions in a blob.

    Raises:
        LogCorrupt: the arrays do not fit together.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(blob)
        prompt, ids, logprobs, lengths = (arrays[name] for name in ("prompt", "ids", "logprobs", "lengths"))
    except (SafetensorError, KeyError) as error:
        raise LogCorrupt(f"A rollout blob holds no token arrays ({error}); the log is damaged, run verify.") from error
    sampled = arrays.get("sampled", np.ones(len(ids), np.bool_))
    if int(lengths.sum()) != len(ids) or len(ids) != len(logprobs) or len(ids) != len(sampled):
        raise LogCorrupt("A rollout blob's lengths do not add up to its tokens; the log is damaged, run verify.")
    cuts = np.cumsum(lengths)[:-1]
    return Rollouts(prompt, np.split(ids, cuts), np.split(logprobs, cuts), np.split(sampled, cuts))
