"""The dimensions of a model, from its `config.json` or from a small table, so that an estimate needs no download.

Norms and biases, less than a thousandth of the weights, are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from events.facts.errors import BadInput
from graph.settings.gguf_folder import is_gguf
from graph.settings.model_location import local_model_folder

FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3")
"""Values of `model_type` whose layers are attention and a gated MLP, and nothing else."""


@dataclass(frozen=True)
class ModelDims:
    """A dense decoder with grouped queries and gated MLPs."""

    layers: int
    width: int
    inner: int
    """Width inside its MLPs."""
    key_values: int
    """Width of the keys, and of the values."""
    vocabulary: int
    tied: bool
    """Whether the output head shares the weights of the embeddings."""
    queries: int
    """Width of the queries."""
    context: int = 32_768
    """Most tokens of prompt and completion together."""

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the linear layers of one layer, by name."""
        return {
            "q_proj": (self.width, self.queries),
            "k_proj": (self.width, self.key_values),
            "v_proj": (self.width, self.key_values),
            "o_proj": (self.queries, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    @property
    def layer(self) -> float:
        """Number of weights of one layer."""
        return float(sum(rows * columns for rows, columns in self.linear.values()))

    @property
    def embeddings(self) -> float:
        """Number of weights of embeddings and head."""
        return float(self.vocabulary * self.width * (1 if self.tied else 2))

    @property
    def weights(self) -> float:
        """Number of all weights."""
        return self.layers * self.layer + self.embeddings

    def adapter(self, rank: int, modules: tuple[str, ...] = ()) -> float:
        """Number of weights of adapters on these linear layers; on all where none is named."""
        chosen = [size for name, size in self.linear.items() if not modules or name in modules]
        return float(self.layers * rank * sum(rows + columns for rows, columns in chosen))


def _qwen(layers: int, width: int, inner: int, key_values: int, *, tied: bool = False) -> ModelDims:
    return ModelDims(layers, width, inner, key_values, 151_936 if width < 3000 else 152_064, tied, width)


KNOWN_MODELS: Final[dict[str, ModelDims]] = {
    "Qwen2.5-Coder-0.5B": _qwen(24, 896, 4864, 128, tied=True),
    "Qwen2.5-Coder-1.5B": _qwen(28, 1536, 8960, 256, tied=True),
    "Qwen2.5-Coder-3B": _qwen(36, 2048, 11_008, 256, tied=True),
    "Qwen2.5-Coder-7B": _qwen(28, 3584, 18_944, 512),
    "Qwen2.5-Coder-14B": _qwen(48, 5120, 13_824, 1024),
}
"""Models of the hub by name; instruct models have the dimensions of their base."""


def dims_of(model: str) -> ModelDims:
    """The dims of the model that a setting names, from its files where they are here, else from the table; else BadInput."""
    if is_gguf(model):
        from roles.models.gguf_config import model_config, read_model

        file = Path(model).expanduser()
        return _dims(model_config(read_model(file)), file)
    folder = local_model_folder(model)
    if folder is not None:
        return read_dims(folder)
    name = model.partition("@")[0].rpartition("/")[2].removesuffix("-Instruct")
    if name not in KNOWN_MODELS:
        raise BadInput(
            f"The model {model} is not here, and its dimensions are in no table; fetch it first with `hf download {model}`."
        )
    return KNOWN_MODELS[name]


def read_dims(folder: Path) -> ModelDims:
    """The dimensions in the `config.json` of a folder; BadInput if there are none, or the model is of another family."""
    try:
        return _dims(json.loads((folder / "config.json").read_text()), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"config.json in {folder} does not have a model's dimensions ({error!r}); restore it.") from error


def _dims(config: dict[str, Any], model: Path) -> ModelDims:
    if config["model_type"] not in FAMILIES:
        raise BadInput(f"{model} holds a {config['model_type']}; sizes are known for {', '.join(FAMILIES)} only.")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    each = config.get("head_dim") or width // heads
    return ModelDims(
        layers=config["num_hidden_layers"],
        width=width,
        inner=config["intermediate_size"],
        key_values=each * config.get("num_key_value_heads", heads),
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
        queries=each * heads,
        context=config["max_position_embeddings"],
    )
