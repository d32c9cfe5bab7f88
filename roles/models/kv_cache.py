"""Keys and values of a batch, with room for more: to sample a token copies none of those before it.

Law: what a layer holds and gives is what transformers' own would, bit for bit. Imported only where a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor

_ROOM: Final = 32
"""Tokens that there is room for when a layer has to be copied anyway."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """A layer whose keys and values are the front of longer tensors."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with nothing, and no room."""
        super().lazy_initialization(key_states, value_states)
        self._whole = [states[..., :0, :] for states in (key_states, value_states)]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Take new keys and values, and give all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        past = self.get_seq_length()
        length = past + key_states.shape[-2]
        if length > self._whole[0].shape[-2]:
            self._whole = [_extended(whole[..., :past, :], length + _ROOM) for whole in self._whole]
        for whole, states in zip(self._whole, (key_states, value_states), strict=True):
            whole[..., past:length, :] = states
        self.keys, self.values = (whole[..., :length, :] for whole in self._whole)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, and the room."""
        room, length = self._whole[0].shape[-2], self.get_seq_length()
        self._whole = [_extended(states[indices], room) for states in (self.keys, self.values)]
        self.keys, self.values = (whole[..., :length, :] for whole in self._whole)


def preallocated_cache(config: Any) -> Any:
    """A cache for a model; layers of a kind of their own, such as those of sliding windows, are transformers'."""
    cache = DynamicCache(config=config)
    cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _extended(states: Tensor, length: int) -> Tensor:
    found = states.new_empty((*states.shape[:-2], length, states.shape[-1]))
    found[..., : states.shape[-2], :] = states
    return found
