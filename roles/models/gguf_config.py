"""Translates the header of a GGUF file into a model's `config.json`, and the names of its tensors into those of transformers.

Guarantees: every tensor of the file has its place and every place its tensor, of the right shape; what could not be carried
over whole (other architectures, parts, scaled rotary embeddings, image encoders) is refused before a weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np

from events.facts.errors import BadInput
from events.text.safe_text import one_line
from roles.models.gguf_header import GgufHeader, GgufTensor, read_header
from roles.models.gguf_tokenizer import token_ids, tokenizer_objection

ARCHITECTURES: Final = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""Classes of transformers by architecture of GGUF. Mistral's models are `llama`, too."""
_FORM: Final = "5.10.0"
"""Version of transformers in whose form `config.json` is; without one it takes the tokenizer for one with a known mistake."""
_ROPE_FACTORS: Final = "rope_freqs.weight"
"""The tensor with Llama 3's factors of rotary frequencies."""
_ROPE_SHAPE: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What those factors are computed from in every Llama 3.1, 3.2 and 3.3, besides `factor`."""
_PART: Final = re.compile(r"-\d{5}-of-(?P<parts>\d{5})\.gguf$")
_MODEL: Final = {
    "token_embd": ("model.embed_tokens", "vocabulary", "width"),
    "output_norm": ("model.norm", "width"),
    "output": ("lm_head", "vocabulary", "width"),
}
"""Names in transformers, and the sizes that make the shape, by names in GGUF."""
_LAYER: Final = {
    "attn_norm": ("input_layernorm", "width"),
    "attn_q": ("self_attn.q_proj", "queries", "width"),
    "attn_k": ("self_attn.k_proj", "keys", "width"),
    "attn_v": ("self_attn.v_proj", "keys", "width"),
    "attn_q_norm": ("self_attn.q_norm", "head"),
    "attn_k_norm": ("self_attn.k_norm", "head"),
    "attn_output": ("self_attn.o_proj", "width", "queries"),
    "ffn_norm": ("post_attention_layernorm", "width"),
    "ffn_gate": ("mlp.gate_proj", "inner", "width"),
    "ffn_up": ("mlp.up_proj", "inner", "width"),
    "ffn_down": ("mlp.down_proj", "width", "inner"),
}
"""The same of each layer; `blk.3.attn_q` is `model.layers.3.self_attn.q_proj`."""


def read_model(file: Path) -> GgufHeader:
    """The header of a GGUF file whose model can be converted whole.

    Raises:
        BadInput: there is no such file, it is damaged, or it holds something else.
    """
    header = read_header(file)
    try:
        for why in _objections(header):
            raise BadInput(why)
        tensor_places(header)
    except BadInput:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"{file} has metadata of a wrong kind ({one_line(str(error), 200)}); download it again.") from error
    return header


def _objections(header: GgufHeader) -> Iterator[str]:
    file, kind = header.file, header.metadata.get("general.type", "model")
    part = _PART.search(file.name)
    if header.metadata.get("split.count", 1) != 1 or (part and int(part["parts"]) != 1):
        yield f"{file} is one part of a split model; join the parts with llama.cpp's `llama-gguf-split --merge` first."
    if kind == "mmproj" or header.architecture == "clip":
        yield f"{file} is the image encoder of a multimodal model (mmproj); give the file of its language model."
    if kind != "model":
        yield f"{file} holds no model but something of the type {one_line(str(kind), 40)!r}; give the file of a model."
    if header.architecture not in ARCHITECTURES:
        yield (
            f"{file} holds a model of the architecture {one_line(header.architecture, 40)!r}, and those of"
            f" {', '.join(ARCHITECTURES)} are converted; give the folder or the hub's name of the original model."
        )
    if (why := tokenizer_objection(header)) is not None:
        yield why
    scaling = header.get("rope.scaling.type", "none")
    if scaling != "none" or header.get("rope.scale_linear", 1.0) != 1.0:
        yield (
            f"{file} scales its rotary embeddings ({one_line(str(scaling), 40)}), which is not converted; give the folder or"
            " the hub's name of the original model."
        )


def model_config(header: GgufHeader) -> dict[str, Any]:
    """The `config.json` of the model, for weights in float32; BadInput if a size is missing or wrong."""
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    heads, width = _size(header, "attention.head_count"), _size(header, "embedding_length")
    head = _size(header, "attention.key_length", width // heads)
    if _size(header, "rope.dimension_count", head) != head or _size(header, "attention.value_length", head) != head:
        raise BadInput(f"{header.file} has heads of unequal sizes, which is not converted; give the original model.")
    return {
        "architectures": [ARCHITECTURES[header.architecture]],
        "model_type": header.architecture,
        "transformers_version": _FORM,
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": _size(header, "feed_forward_length"),
        "num_hidden_layers": _size(header, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _size(header, "attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": _size(header, "context_length"),
        "rms_norm_eps": float(header.get("attention.layer_norm_rms_epsilon", 1e-6)),
        "rope_parameters": _rope(header, head),
        "attention_bias": header.architecture != "qwen2" and "blk.0.attn_output.bias" in shapes,
        "mlp_bias": header.architecture == "llama" and "blk.0.ffn_up.bias" in shapes,
        "vocab_size": shapes.get("token_embd.weight", (0,))[0],
        "tie_word_embeddings": "output.weight" not in shapes,
        "bos_token_id": token_ids(header).get("bos"),
        "eos_token_id": token_ids(header).get("eos"),
        "pad_token_id": token_ids(header).get("padding"),
    }


def _size(header: GgufHeader, key: str, default: int | None = None) -> int:
    value = header.get(key, default)
    if type(value) is not int or value < 1:
        raise BadInput(f"{header.file} has no {header.architecture}.{key} that is a size; convert the original model anew.")
    return value


def _rope(header: GgufHeader, head: int) -> dict[str, Any]:
    theta = float(header.get("rope.freq_base", 10_000.0))
    tensor = next((tensor for tensor in header.tensors if tensor.name == _ROPE_FACTORS), None)
    if tensor is None:
        return {"rope_type": "default", "rope_theta": theta}
    factors = read_bytes(header, tensor).view("<f4") if tensor.type == "F32" else np.zeros(0)
    shape = {"factor": round(float(factors.max(initial=1.0)), 3), **_ROPE_SHAPE}
    if factors.shape != (head // 2,) or not np.allclose(factors, _llama3_factors(theta, head, **shape), rtol=1e-4):
        raise BadInput(f"{header.file} has factors of rotary frequencies that are not Llama 3's; give the original model.")
    return {"rope_type": "llama3", "rope_theta": theta, **shape}


def _llama3_factors(
    theta: float,
    head: int,
    *,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> np.ndarray[Any, Any]:
    """By what Llama 3 divides the rotary frequencies [head / 2]: nothing for short waves, `factor` for long ones."""
    waves = 2 * np.pi * theta ** (np.arange(0, head, 2) / head)
    share = (original_max_position_embeddings / waves - low_freq_factor) / (high_freq_factor - low_freq_factor)
    smooth = np.clip(share, 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def read_bytes(header: GgufHeader, tensor: GgufTensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of a tensor, mapped from the file."""
    return np.memmap(header.file, np.uint8, mode="r", offset=tensor.offset, shape=(tensor.size,))


def tensor_places(header: GgufHeader) -> dict[str, str]:
    """The name in transformers of each tensor, by its name in the file; BadInput unless they are those of the model."""
    config = model_config(header)
    sizes = {
        "vocabulary": config["vocab_size"],
        "width": config["hidden_size"],
        "inner": config["intermediate_size"],
        "queries": config["num_attention_heads"] * config["head_dim"],
        "keys": config["num_key_value_heads"] * config["head_dim"],
        "head": config["head_dim"],
    }
    shapes = {tensor.name: tensor.shape for tensor in header.tensors if tensor.name != _ROPE_FACTORS}
    if config["num_hidden_layers"] > len(shapes):
        raise BadInput(f"{header.file} has fewer tensors than layers; download it again.")
    places, expected = {}, {}
    for source, target, axes in _tensors(config):
        places[source], expected[source] = target, tuple(sizes[axis] for axis in axes)
    for name in sorted(shapes.keys() ^ expected.keys()):
        what = "lacks the tensor" if name in expected else f"has, for a {header.architecture}, the unknown tensor"
        raise BadInput(f"{header.file} {what} {one_line(name, 80)}; give the folder or the hub's name of the original model.")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise BadInput(f"{header.file} has a tensor {name} of the shape {shapes[name]}, not {shape}; download it again.")
    return places


def _tensors(config: dict[str, Any]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Name in the file, name in transformers, and sizes, of every tensor of the model."""
    for name, (place, *axes) in _MODEL.items():
        if name != "output" or not config["tie_word_embeddings"]:
            yield f"{name}.weight", f"{place}.weight", axes
    missing = set() if config["model_type"] == "qwen3" else {"attn_q_norm", "attn_k_norm"}
    biased = {"attn_q", "attn_k", "attn_v"} if config["model_type"] == "qwen2" or config["attention_bias"] else set()
    biased |= {"attn_output"} if config["attention_bias"] else set()
    biased |= {"ffn_gate", "ffn_up", "ffn_down"} if config["mlp_bias"] else set()
    for number, (name, (place, *axes)) in product(range(config["num_hidden_layers"]), _LAYER.items()):
        source, target = f"blk.{number}.{name}", f"model.layers.{number}.{place}"
        if name not in missing:
            yield f"{source}.weight", f"{target}.weight", axes
        if name in biased:
            yield f"{source}.bias", f"{target}.bias", axes[:1]
