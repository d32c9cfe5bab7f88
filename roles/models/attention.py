"""Attention for one new token per row, without copying keys and values for every query head.

Guarantees: results are those of transformers' `sdpa` up to rounding; every other input than one new token per row with grouped
heads goes to `sdpa`. Imported only where a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

NAME: Final = "grouped"
"""Name that it is registered under in transformers."""
_SMALL_PRODUCT: Final = 1 << 18
"""Multiplications up to which numpy's products take one thread; for larger ones it would ignore torch's number of threads."""


def grouped_query_attention(
    module: Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """Attention of `query` [B, heads, T, D] to `key` and `value` [B, key heads, S, D]; the result is [B, T, heads, D].

    As T is 1, the query heads that share a key head take the place of the positions: [B, key heads, group, D].
    """
    rows, heads, new, width = query.shape
    plain = more.get("position_bias") is None and (attention_mask is None or attention_mask.shape[1] == 1)
    if new > 1 or heads == key.shape[1] or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)  # type: ignore[no-any-return]
    by_group = query.view(rows, key.shape[1], -1, width)
    attended = scaled_dot_product_attention(by_group, key, value, attn_mask=attention_mask, scale=more.get("scaling"))
    return attended.reshape(rows, 1, heads, -1), None


def one_query_attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attention of one new token per row on a CPU in float32, [B, key heads, group, D].

    Args:
        queries: [B, key heads, group, D], scaled.
        keys: [B, key heads, S, D].
        values: Likewise.
        bias: [B, 1, 1, S], minus infinity for what is not attended to.
    """
    if queries[0, 0].numel() * keys.shape[2] > _SMALL_PRODUCT:
        return scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
    # numpy's products of small matrices take a third of the time of torch's.
    scores = torch.from_numpy(np.matmul(queries.numpy(), keys.numpy().swapaxes(-1, -2)))
    weights = torch.softmax(scores.add_(bias), dim=-1)
    return torch.from_numpy(np.matmul(weights.numpy(), values.numpy()))


def use_grouped_attention(model: Any) -> None:
    """Make a model that uses `sdpa` use grouped attention."""
    AttentionInterface.register(NAME, grouped_query_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
