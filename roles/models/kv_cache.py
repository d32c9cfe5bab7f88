"""A key-value cache with spare room: sampling a token does not copy the keys and values before it.

Guarantees: the cached values are bit for bit those of transformers' own cache. Imported only where a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

_ROOM: Final = 32
"""Spare tokens when a layer must be copied."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer whose keys and values [B, heads, S, D] are the front of longer tensors."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Start empty, without spare room, for keys and values in the form of these [B, heads, T, D]."""
        super().lazy_initialization(key_states, value_states)
        self._buffers = [states[..., :0, :] for states in (key_states, value_states)]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new keys and values [B, heads, T, D], and return all [B, heads, S + T, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        past = self.get_seq_length()
        length = past + key_states.shape[-2]
        if length > self._buffers[0].shape[-2]:
            self._buffers = [_extended(buffer[..., :past, :], length + _ROOM) for buffer in self._buffers]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., past:length, :] = states
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows [N] of the batch, and the spare room."""
        room, length = self._buffers[0].shape[-2], self.get_seq_length()
        self._buffers = [_extended(states[indices], room) for states in (self.keys, self.values)]
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)


def preallocated_cache(config: Any) -> Any:
    """A cache for a model; special layers, such as those of sliding windows, stay transformers'."""
    cache = DynamicCache(config=config)
    # By exact type: a layer of a sliding window drops old tokens, which a buffer that only grows does not.
    cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _extended(states: Tensor, length: int) -> Tensor:
    """A copy of keys or values [B, heads, S, D] at the front of a tensor [B, heads, `length`, D]."""
    # Not zeroed: keys and values are views that end where tokens do, so the spare room is never read.
    longer = states.new_empty((*states.shape[:-2], length, states.shape[-1]))
    longer[..., : states.shape[-2], :] = states
    return longer
