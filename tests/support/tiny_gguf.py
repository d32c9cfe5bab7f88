"""Tiny GGUF files, written as llama.cpp's converter does: with the names of `gguf`'s own table, and quantised by `gguf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from trainer.learn.loss import keep_libraries_offline

SPECIAL = ("<|begin|>", "<|end|>", "<|turn|>")
TEMPLATE = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}<|turn|>assistant"


def byte_tokens() -> list[str]:
    """The 256 byte tokens of byte-level BPE, two merged ones, and the special ones."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*bytes_to_unicode().values(), "ab", "12", *SPECIAL]


def tiny_model(family: str, **changes: Any) -> Any:
    """A random model of an architecture of GGUF, whose logits depend on every weight."""
    keep_libraries_offline()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": len(byte_tokens()), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "initializer_range": 0.2, "rms_norm_eps": 1e-5, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(sizes | changes)), dtype=torch.float32)
    for parameter in model.parameters():
        # Biases and norms are constants at first.
        torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() == 1 else None
    return model.eval()


def write_gguf(
    file: Path,
    model: Any,
    kind: str = "Q8_0",
    *,
    metadata: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray | None] | None = None,
) -> Path:
    """Write a model as GGUF, its matrices quantised. `metadata` and `tensors` change what is written; None takes it out.

    The weights of `model` become those that the file holds.
    """
    config, family = model.config, model.config.model_type
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(file, family)
    for key, value in {**_metadata(family, config), **(metadata or {})}.items():
        _add(writer, key, value)
    content: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]] = {}
    for name, parameter in model.named_parameters():
        weights, quantisation = parameter.detach().numpy(), gguf.GGMLQuantizationType.F32
        stem, _, suffix = name.rpartition(".")
        if weights.ndim > 1:
            quantisation = gguf.GGMLQuantizationType[kind]
            weights[:] = gguf.dequantize(gguf.quantize(weights, quantisation), quantisation)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(stem.rpartition(".")[2])
        if family == "llama" and heads:
            # As `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py.
            halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
            weights = halves.swapaxes(1, 2).reshape(weights.shape)
        content[f"{names.get_name(stem)}.{suffix}"] = weights, quantisation
    for name, changed in (tensors or {}).items():
        content.pop(name, None)
        if changed is not None:
            content[name] = changed, gguf.GGMLQuantizationType.F32
    for name, (weights, quantisation) in content.items():
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(weights), quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _metadata(family: str, config: Any) -> dict[str, Any]:
    tokens = byte_tokens()
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    return {
        "general.type": "model",
        f"{family}.block_count": config.num_hidden_layers,
        f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.attention.key_length": config.head_dim,
        f"{family}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{family}.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
        "tokenizer.ggml.merges": ["a b", "1 2"],
        "tokenizer.ggml.bos_token_id": tokens.index("<|begin|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|end|>"),
        "tokenizer.chat_template": TEMPLATE,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    if value is not None:
        kinds[type(value)](key, value)
