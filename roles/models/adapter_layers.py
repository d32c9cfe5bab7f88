"""Which layers of a model take low-rank adapters, found on a model without its weights if need be. It imports torch."""

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
    """The model of a folder with its layers and without its weights.

    Raises:
        BadInput: its `config.json` describes no causal language model that transformers knows.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{folder} holds no causal language model that transformers can build ({said}); give another."
        ) from error


def linear_layers(model: Any) -> dict[str, Module]:
    """The linear layers by their place in the model, all but the output head; GPT-2's `Conv1D` is one."""
    head = model.get_output_embeddings()
    layers = model.named_modules()
    return {place: module for place, module in layers if isinstance(module, (Linear, Conv1D)) and module is not head}


def layer_names(model: Any) -> list[str]:
    """Names that stand for all linear layers: short ones such as `q_proj`, or whole places where a short one says too much."""
    fitting = linear_layers(model)
    short = {place.rpartition(".")[2] for place in fitting}
    others = {place.rpartition(".")[2] for place, _ in model.named_modules() if place not in fitting}
    return sorted(fitting if short & others else short)


def adapter_objection(model: Any, named: Sequence[str]) -> str | None:
    """Why adapters cannot be put on the layers of these names, as a sentence; None where they can.

    A name stands for each layer whose place is it or ends with it after a dot, as in peft. Without any name it is asked whether
    there is a linear layer at all.
    """
    fitting, head = linear_layers(model), model.get_output_embeddings()
    if not fitting:
        return f"learn.lora.rank is set, and a {type(model).__name__} has no linear layers to adapt; leave it at 0"
    for name in named:
        found = {place: module for place, module in model.named_modules() if f".{place}".endswith(f".{name}")}
        wrong = next((module for place, module in found.items() if place not in fitting), None)
        if not name or not found:
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
