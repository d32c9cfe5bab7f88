"""Converts a GGUF file into a folder in Hugging Face format, with its weights dequantised to float32.

Guarantees: each weight is what `gguf`, llama.cpp's own package, makes of its block, and nothing is rounded further; weights
that are no finite numbers are refused. Memory holds one file of weights at a time.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from events.facts.errors import BadInput
from roles.models.gguf_config import model_config, read_bytes, tensor_places
from roles.models.gguf_header import GgufHeader, GgufTensor
from roles.models.gguf_tokenizer import write_tokenizer

SHARD_WEIGHTS: Final = 2**30
"""Most weights in a file, unless a single tensor has more."""
_PACKAGE: Final = "gguf"


def converter() -> str:
    """The package that dequantises, with its version."""
    return f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}"


def convert(header: GgufHeader, folder: Path) -> None:
    """Write model and tokenizer into an empty folder; BadInput if weights or tokenizer of the file cannot be used."""
    config, places = model_config(header), tensor_places(header)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    write_tokenizer(header, folder)
    shards = list(_shards([tensor for tensor in header.tensors if tensor.name in places]))
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        weights = {places[tensor.name]: _weights(header, tensor, config) for tensor in shard}
        save_file(weights, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(weights, name)
    if len(shards) > 1:
        size = 4 * sum(weight_count(tensor) for shard in shards for tensor in shard)
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def weight_count(tensor: GgufTensor) -> int:
    """Number of weights of a tensor."""
    return math.prod(tensor.shape)


def _shards(tensors: list[GgufTensor]) -> Iterator[list[GgufTensor]]:
    shard: list[GgufTensor] = []
    for tensor in tensors:
        if shard and sum(map(weight_count, shard)) + weight_count(tensor) > SHARD_WEIGHTS:
            yield shard
            shard = []
        shard.append(tensor)
    if shard:
        yield shard


def _weights(header: GgufHeader, tensor: GgufTensor, config: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The weights of a tensor in the order of transformers."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    content = read_bytes(header, tensor)
    try:
        with np.errstate(all="ignore"):
            plain = dequantize(content.reshape(*tensor.shape[:-1], -1), GGMLQuantizationType[tensor.type])
    except NotImplementedError as error:
        raise BadInput(
            f"{header.file} has tensors of the type {tensor.type}, which the package gguf cannot dequantise; give a file of"
            " another quantisation."
        ) from error
    weights = np.asarray(plain, dtype=np.float32).reshape(tensor.shape)
    if not np.isfinite(weights).all():
        raise BadInput(f"{header.file} has weights in {tensor.name} that are no finite numbers; download it again.")
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(tensor.name.split(".")[-2])
    if header.architecture != "llama" or heads is None:
        return np.ascontiguousarray(weights)
    # llama.cpp pairs neighbouring rows of a head for its rotary embedding, transformers rows half a head apart.
    pairs = weights.reshape(heads, -1, 2, *weights.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weights.shape))
