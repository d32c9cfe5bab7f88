"""Linear layers whose bfloat16 weights are in the layout that oneDNN computes with on a CPU.

torch brings a plain weight into that layout anew at every call, which for few rows takes longer than the product. Results are
those of plain layers up to rounding. The operators are private to torch, which uses them in compiled models. Imported only
where a model is loaded.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_ROWS: Final = 16
"""Rows that the layout is chosen for; it works with any number."""


class PackedLinear(nn.Module):
    """A linear layer for inference only; its weight cannot be read back."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.data, _ROWS)
        self._bias = None if layer.bias is None else layer.bias.data

    def forward(self, states: Tensor) -> Tensor:
        """The layer's output [..., O] for `states` [..., I]."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return output


def pack_linear_layers(model: nn.Module) -> None:
    """Pack every linear layer of a model on a CPU that computes in bfloat16; any other model stays as it is."""
    # A torch that was built without oneDNN, as on Apple's processors, has none of these operators.
    has_operators = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not has_operators or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer) is nn.Linear and layer.weight.dtype is torch.bfloat16 and layer.weight.device.type == "cpu":
                setattr(module, name, PackedLinear(layer))
