"""A step of one new token per row in few calls, for float32 decoders of the common kind on a CPU.

transformers makes hundreds of calls of torch in a step of the pocket model, and their overhead is most of what a step takes.

Guarantees: logits are those of transformers' own forward pass up to rounding, and the same cache is used. Imported only where a
model is loaded.
Not responsible for: prompts, which transformers reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch import Tensor
from torch.nn import functional

from roles.models.attention import one_query_attention
from roles.models.kv_cache import PreallocatedLayer, preallocated_cache

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

_MODEL_TYPES: Final = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Models of layers with RMS norms, rotary positions and a gated SiLU network; qwen3 has norms of queries and keys, too."""


class DecoderStep:
    """Computes the logits of one new token per row with the weights of a model, of which it keeps no copy.

    Args:
        model: As transformers loads it. Its weights of one product become parts of one tensor.
    """

    def __init__(self, model: Any) -> None:
        decoder = model.model
        self._embedding = decoder.embed_tokens.weight
        self._rotary = decoder.rotary_emb
        self._layers = [_LayerStep(layer, model.config) for layer in decoder.layers]
        self._norm = _Norm(decoder.norm, decoder.norm.weight)
        self._head = model.lm_head

    @classmethod
    def fitting(cls, model: Any) -> Self | None:
        """The step of a model; None if its architecture, dtype or device is another."""
        config = model.config
        plain = config.model_type in _MODEL_TYPES and model.dtype is torch.float32 and model.device.type == "cpu"
        if not plain or config.hidden_act != "silu" or getattr(config, "mlp_bias", False):
            return None
        if any(type(layer) is not PreallocatedLayer for layer in preallocated_cache(config).layers):
            return None
        return cls(model)

    def __call__(self, ids: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """Logits [B, vocabulary] after the new `ids` [B]; `mask` [B, S + 1] covers the S cached tokens, too."""
        states = functional.embedding(ids, self._embedding)
        # [B, 1, width of a head] each; positions count tokens, not padding.
        cos, sin = self._rotary(states, mask.sum(dim=1, keepdim=True) - 1)
        # The first half of a head is rotated by its second half's negative.
        sin = torch.cat((-sin[..., : sin.shape[-1] // 2], sin[..., sin.shape[-1] // 2 :]), dim=-1)
        bias = torch.zeros(mask.shape).masked_fill_(mask == 0, float("-inf"))[:, None, None]
        for layer, cached in zip(self._layers, cache.layers, strict=True):
            states = layer(states, cos, sin, bias, cached)
        return functional.linear(self._norm(states), self._head.weight, self._head.bias)


class _LayerStep:
    """The same of one layer."""

    def __init__(self, layer: Any, config: Any) -> None:
        attention, network = layer.self_attn, layer.mlp
        self._width = attention.head_dim
        self._key_heads = config.num_key_value_heads
        self._rotated = config.num_attention_heads + self._key_heads
        self._scale = attention.scaling
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self._attention_norm, self._network_norm = (_Norm(norm, norm.weight) for norm in norms)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._projection = _joined([projection.weight for projection in projections])
        self._projection_bias = (
            None if projections[0].bias is None else torch.cat([projection.bias for projection in projections])
        )
        self._head_norm: _Norm | None = None
        if hasattr(attention, "q_norm"):
            counts = (attention.q_norm, config.num_attention_heads), (attention.k_norm, self._key_heads)
            weights = torch.cat([norm.weight.expand(heads, -1) for norm, heads in counts])
            self._head_norm = _Norm(attention.q_norm, weights)
        self._output = attention.o_proj
        self._gate_up = _joined([network.gate_proj.weight, network.up_proj.weight])
        self._down = network.down_proj.weight

    def __call__(self, states: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, cached: PreallocatedLayer) -> Tensor:
        """The layer's output [B, hidden] for `states` [B, hidden]; the token's key and value go into `cached`."""
        rows = states.shape[0]
        projected = functional.linear(self._attention_norm(states), self._projection, self._projection_bias)
        heads = projected.view(rows, -1, self._width)
        # Queries and keys, [B, heads + key heads, width].
        rotated = heads[:, : self._rotated]
        if self._head_norm is not None:
            rotated = self._head_norm(rotated)
        rotated = rotated * cos + rotated.roll(self._width // 2, dims=-1) * sin
        keys, values = cached.update(rotated[:, -self._key_heads :, None], heads[:, self._rotated :, None])
        queries = rotated[:, : -self._key_heads].reshape(rows, self._key_heads, -1, self._width)
        attended = one_query_attention(queries * self._scale, keys, values, bias).view(rows, -1)
        states = states + functional.linear(attended, self._output.weight, self._output.bias)
        gate, up = functional.linear(self._network_norm(states), self._gate_up).chunk(2, dim=-1)
        return states + functional.linear(functional.silu(gate) * up, self._down)


class _Norm:
    """An RMS norm of the last dimension in four calls, for few rows in half of the time of torch's own; the shape stays."""

    def __init__(self, norm: Any, weights: Tensor) -> None:
        width = weights.shape[-1]
        self._weights = weights.detach() * math.sqrt(width)
        self._offset = torch.tensor(math.sqrt(width * norm.variance_epsilon))

    def __call__(self, states: Tensor) -> Tensor:
        # A root of the mean square plus epsilon is the length of states and offset together, divided by the root of the width.
        length = torch.hypot(torch.linalg.vector_norm(states, dim=-1, keepdim=True), self._offset)
        return states / length * self._weights


def _joined(weights: Sequence[Tensor]) -> Tensor:
    """One tensor [sum of N, D] of all rows of `weights` [N, D], which become its parts."""
    joined = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, torch.split(joined, [len(weight) for weight in weights]), strict=True):
        weight.data = part
    return joined
