"""Low-rank adapters: several policies on one base model, which is in memory once.

Guarantees: the base never changes. The folder of such a policy holds the adapter alone, in peft's format, byte for byte the
same with every version of peft, and names its base by digest. A fresh adapter computes what the base computes.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import TrainerError
from events.facts.values import Digest
from events.facts.weights import ADAPTER_CONFIG_FILE, ADAPTER_FILE
from graph.settings.config import LoraSettings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

_PREFIX: Final = "base_model.model."
"""peft's prefix of the names of an adapter's tensors in a file."""


@dataclass(frozen=True)
class Adapter:
    """One policy's adapter in a model that may carry others."""

    model: PreTrainedModel
    name: str
    base: Digest
    """Digest of the base weights."""

    @classmethod
    def attach(cls, model: PreTrainedModel, name: str, base: Digest, lora: LoraSettings, seed: int) -> Adapter:
        """Add a fresh adapter to the model.

        Raises:
            TrainerError: the model has no linear layers of the names in `lora.modules`.
        """
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        from roles.models import adapter_layers

        carried = getattr(model, "peft_config", {})
        if not carried and (why := adapter_layers.adapter_objection(model, lora.modules)) is not None:
            raise TrainerError(why)
        named = next(iter(carried.values())).target_modules if carried else lora.modules or adapter_layers.layer_names(model)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=sorted(named))
        torch.manual_seed(seed % 2**63)
        try:
            with warnings.catch_warnings():
                # A second policy on the same base is intended.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                # GPT-2's layers hold their weights transposed, which peft detects.
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
                inject_adapter_in_model(config, model, name)
        except ValueError as error:
            raise TrainerError(f"No adapter fits the model ({error}); name its linear layers in learn.lora.modules.") from error
        return cls(model, name, base)

    def activate(self) -> None:
        """Make the model compute and train with this adapter."""
        for module in _adapter_layers(self.model):
            module.set_adapter(self.name)

    def adds_nothing(self) -> bool:
        """Whether the model computes what the base computes, as with a fresh adapter: one factor of every product is 0."""
        return not any(bool(value.any()) for name, value in self._tensors().items() if ".lora_B." in name)

    def write(self, folder: Path) -> None:
        """Write the adapter into the folder of its weights."""
        from safetensors.torch import save_file

        config = self.model.peft_config[self.name]
        # Written by hand, because peft's own file changes from version to version, and the digest would with it.
        settings = {
            "base_model_name_or_path": self.base,
            "bias": "none",
            "lora_alpha": config.lora_alpha,
            "peft_type": "LORA",
            "r": config.r,
            "target_modules": sorted(config.target_modules),
            "task_type": "CAUSAL_LM",
        }
        (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n")
        tensors = {name: value.detach().cpu().contiguous() for name, value in self._tensors().items()}
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})

    def read(self, folder: Path) -> None:
        """Load the adapter in a folder.

        Raises:
            TrainerError: it is for another base, or has other layers or another rank.
            OSError, ValueError, SafetensorError: its files are damaged.
        """
        import torch
        from safetensors.torch import load_file

        base = json.loads((folder / ADAPTER_CONFIG_FILE).read_text())["base_model_name_or_path"]
        stored, tensors = load_file(folder / ADAPTER_FILE), self._tensors()
        if base != self.base or {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in tensors.items()}:
            raise TrainerError(f"The adapter in {folder} does not fit learn.lora on {self.base}; restore the run's own.")
        with torch.no_grad():
            for name, value in tensors.items():
                value.copy_(stored[name])

    def _tensors(self) -> dict[str, Tensor]:
        """The adapter's parameters by peft's names in a file."""
        return {
            f"{_PREFIX}{name.replace(f'.{self.name}.', '.')}": value
            for name, value in self.model.named_parameters()
            if "lora_" in name and f".{self.name}." in name
        }


def _adapter_layers(model: Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
