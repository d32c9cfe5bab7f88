"""Samples the next tokens of a batch.

Guarantees: a row's token depends only on its logits, its sampling settings and its own random number; logprobs are those of the
distribution that is sampled from, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from events.facts.values import Sampling

if TYPE_CHECKING:
    import torch


def uniforms(seed: int, row: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`count` random numbers in [0, 1) of one row: counter-based, so that they depend on seed and row alone."""
    # Philox draws from a key and a counter; a shared generator would tie a row's numbers to the rows before it.
    key = np.array([seed % 2**64, row], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def sample_tokens(
    logits: torch.Tensor, samplings: Sequence[Sampling], uniform: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next ids [B] and their logprobs [B], by inversion of the cumulative distribution.

    Args:
        logits: [B, vocabulary].
        samplings: settings of each row.
        uniform: [B] in [0, 1), a random number per row.
    """
    import torch

    device = logits.device
    temperature = torch.tensor([sampling.temperature for sampling in samplings], device=device)[:, None]
    scaled = logits.float() / torch.where(temperature > 0, temperature, torch.ones((), device=device))
    if any(sampling.top_p < 1 for sampling in samplings):
        scaled = _nucleus(scaled, torch.tensor([sampling.top_p for sampling in samplings], device=device)[:, None])
    logprobs = torch.log_softmax(scaled, dim=-1)
    u = torch.tensor(uniform, dtype=torch.float64, device=device)
    # Summed in float64: near 1 the steps of float32 are wider than many probabilities.
    heights = logprobs.exp().double().cumsum(dim=-1)
    # The last height is 1 up to rounding, hence the scale; `right` passes over ids of probability 0.
    drawn = torch.searchsorted(heights, (u * heights[:, -1])[:, None], right=True)[:, 0]
    chosen = drawn.clamp(max=logits.shape[-1] - 1)
    if any(sampling.temperature == 0 for sampling in samplings):
        chosen = torch.where(temperature[:, 0] > 0, chosen, scaled.argmax(dim=-1))
    return chosen, logprobs.gather(1, chosen[:, None])[:, 0]


def _nucleus(scaled: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """`scaled` [B, vocabulary] with minus infinity outside the smallest set of ids with a mass of `top_p` [B, 1]."""
    import torch

    ordered, index = scaled.sort(dim=-1, descending=True)
    mass = torch.softmax(ordered, dim=-1)
    outside = (mass.cumsum(dim=-1) - mass >= top_p) & (top_p < 1)
    return scaled.masked_fill(torch.zeros_like(outside).scatter(1, index, outside), float("-inf"))
