"""Importance weights, their effective sample size, and estimates of the KL divergence from the sampling policy.

Everything is a function of log p - log p_sampled of the sampled tokens, without gradient. Metrics are means over tokens, so
that those of micro-batches average to those of the step; `MISMATCH_MAX` is a maximum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from torch import Tensor

MISMATCH_MEAN: Final = "sampling/sampling_logp_difference/mean"
"""Metric: mean distance between logged and recomputed logprobs; near 0 when the weights are those that sampled. In nats."""
MISMATCH_MAX: Final = "sampling/sampling_logp_difference/max"
"""Metric: the largest such distance of one token."""
KL_K1: Final = "sampling/kl_k1"
"""Metric: the mean of log p_sampled - log p, the plain estimate of KL(p_sampled || p)."""
KL_K3: Final = "sampling/kl_k3"
"""Metric: the mean of r - 1 - log r for r = p / p_sampled, the same with less variance and never negative."""
RATIO_MEAN: Final = "sampling/importance_sampling_ratio/mean"
"""Metric: mean importance weight p / p_sampled before truncation; 1 in expectation."""
EFFECTIVE_SAMPLE_SHARE: Final = "sampling/effective_sample_share"
"""Metric: effective sample size over tokens, (sum w)^2 / (n sum w^2), of the weights before truncation; 1 on-policy."""
_RATIO_MEAN_SQUARE: Final = "sampling/importance_sampling_ratio/mean_square"


def importance_weights(log_ratio: Tensor, kind: Literal["truncate", "mask"], cap: float) -> Tensor:
    """The factor of each token's loss [B, T] from log ratios [B, T]: min(r, cap), or r where it is at most `cap` and else 0.

    Truncated importance sampling is IMPALA's, arXiv 1802.01561; its use beside the clipped ratio is decoupled PPO's,
    arXiv 2110.00641.
    """
    ratio = log_ratio.exp()
    return ratio.clamp(max=cap) if kind == "truncate" else ratio.masked_fill(ratio > cap, 0.0)


def mismatch_metrics(log_ratio: Tensor, mask: Tensor) -> dict[str, float]:
    """Means over the tokens of a micro-batch; `log_ratio` and `mask` have shape [B, T]."""
    # In float64, because the square of a large weight overflows float32.
    log_ratio = log_ratio.double()
    ratio = log_ratio.exp()
    terms = {
        MISMATCH_MEAN: log_ratio.abs(),
        KL_K1: -log_ratio,
        KL_K3: ratio - 1 - log_ratio,
        RATIO_MEAN: ratio,
        _RATIO_MEAN_SQUARE: ratio.square(),
    }
    means = {name: float((term * mask).sum() / mask.sum()) for name, term in terms.items()}
    return {**means, MISMATCH_MAX: float((log_ratio.abs() * mask).max())}


def step_metrics(means: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a step from means over all its tokens."""
    metrics = {name: value for name, value in means.items() if name != _RATIO_MEAN_SQUARE}
    if _RATIO_MEAN_SQUARE in means:
        metrics[EFFECTIVE_SAMPLE_SHARE] = means[RATIO_MEAN] ** 2 / means[_RATIO_MEAN_SQUARE]
    return metrics
