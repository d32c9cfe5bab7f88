"""Finds the layers of a model that low-rank adapters can be put on. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn import Linear
from transformers.pytorch_utils import Conv1D

from events.facts.errors import BadInput

if TYPE_CHECKING:
    from torch.nn import Module


def model_without_weights(folder: Path) -> Any:
    """The model of a folder on the meta device: its layers without weights; BadInput if transformers knows no such model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{folder} holds no causal language model that transformers can build ({reason}); give another."
        ) from error


def linear_layers(model: Any) -> dict[str, Module]:
    """The linear layers but the output head, by path in the model; GPT-2's `Conv1D` counts as one."""
    head = model.get_output_embeddings()
    layers = model.named_modules()
    return {path: module for path, module in layers if isinstance(module, (Linear, Conv1D)) and module is not head}


def layer_names(model: Any) -> list[str]:
    """Names for all linear layers: short ones such as `q_proj`, or whole paths where a short one would match other layers."""
    linear = linear_layers(model)
    short = {path.rpartition(".")[2] for path in linear}
    others = {path.rpartition(".")[2] for path, _ in model.named_modules() if path not in linear}
    return sorted(linear if short & others else short)


def adapter_objection(model: Any, named: Sequence[str]) -> str | None:
    """Why adapters cannot be put on the layers with these names, as a sentence; None if they can.

    As in peft, a name stands for each layer whose path equals it or ends with it after a dot. No names stand for all linear
    layers.
    """
    linear, head = linear_layers(model), model.get_output_embeddings()
    if not linear:
        return f"learn.lora.rank is set, and a {type(model).__name__} has no linear layers to adapt; leave it at 0"
    for name in named:
        layers = {path: module for path, module in model.named_modules() if f".{path}".endswith(f".{name}")}
        wrong = next((module for path, module in layers.items() if path not in linear), None)
        if not name or not layers:
            what = "which the model does not have"
        elif wrong is None:
            continue
        elif wrong is head:
            what = "the model's output head"
        else:
            what = f"which is no linear layer but of class {type(wrong).__name__}"
        return (
            f"learn.lora.modules names {name!r}, {what}; name some of {', '.join(layer_names(model))}, or none for all of these"
        )
    return None
