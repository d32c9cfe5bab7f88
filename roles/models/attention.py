"""Attention of one new token a row, without a copy of keys and values for every query head.

Law: what it gives is what transformers' `sdpa` would, but for rounding; whatever is not one new token a row with heads in
groups goes there as it is. Imported only where a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

NAME: Final = "grouped"
"""What transformers knows it by."""


def grouped_query_attention(
    module: Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """The query heads that share keys stand in the place of positions, of which there is only one."""
    rows, heads, new, width = query.shape
    plain = more.get("position_bias") is None and (attention_mask is None or attention_mask.shape[1] == 1)
    if new > 1 or heads == key.shape[1] or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)  # type: ignore[no-any-return]
    together = query.view(rows, key.shape[1], -1, width)
    found = scaled_dot_product_attention(together, key, value, attn_mask=attention_mask, scale=more.get("scaling"))
    return found.reshape(rows, 1, heads, -1), None


def use_grouped_attention(model: Any) -> None:
    """Have a model that computes attention by `sdpa` use it."""
    AttentionInterface.register(NAME, grouped_query_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
