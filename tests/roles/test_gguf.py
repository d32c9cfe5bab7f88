"""GGUF files: what is read of them, that their weights come out as `gguf` dequantises them, and what is refused."""

from __future__ import annotations

import json
import os
import random
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from events.facts.errors import BadInput
from events.facts.values import Sampling
from roles.chat_encoding import ChatEncoding
from roles.model import GenerationRequest
from roles.models import gguf_conversion
from roles.models.gguf_config import read_model
from roles.models.gguf_conversion import convert
from roles.models.gguf_header import read_header
from roles.models.gguf_tokenizer import SPLITTINGS
from tests.support.tiny_gguf import byte_tokens, tiny_model, write_gguf

REAL = Path(os.environ.get("GASP_GGUF", "none"))
"""A real file of SmolLM2-135M-Instruct."""
TEXTS = ("def f(x):\n    return x[12:345]\n\n", " it's  a\tb \r\n", "ab12ab", "naïve ½ ﬁ 日本", "<|end|> is text")


def converted(file: Path, folder: Path) -> Path:
    folder.mkdir()
    convert(read_model(file), folder)
    return folder


def logits(model, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


@pytest.mark.parametrize(
    ("family", "kind", "changes"),
    [
        ("llama", "Q8_0", {"tie_word_embeddings": False}),
        ("llama", "Q4_0", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
        ("qwen2", "Q4_0", {"tie_word_embeddings": True}),
        ("qwen2", "F16", {"tie_word_embeddings": False}),
        ("qwen3", "Q8_0", {"tie_word_embeddings": False, "head_dim": 32}),
        ("qwen3", "BF16", {"tie_word_embeddings": True}),
    ],
)
def test_logits_are_those_of_the_same_weights_dequantised(tmp_path, family, kind, changes) -> None:
    model = tiny_model(family, **changes)
    folder = converted(write_gguf(tmp_path / "model.gguf", model, kind), tmp_path / "model")
    again, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    ids = list(range(0, 256, 3))
    assert torch.equal(logits(again, ids), logits(model, ids))


def test_a_large_model_is_written_in_parts(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_conversion, "SHARD_WEIGHTS", 20_000)
    model = tiny_model("qwen3")
    folder = converted(write_gguf(tmp_path / "model.gguf", model), tmp_path / "model")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder), [1, 2, 3]), logits(model, [1, 2, 3]))


def test_llama_3s_scaled_frequencies_are_recognised(tmp_path) -> None:
    scaled = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope = scaled | {"original_max_position_embeddings": 8192}
    model = tiny_model("llama", rope_parameters=rope, head_dim=32, max_position_embeddings=131_072)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, torch.device("cpu"))
    plain = 500_000.0 ** (-torch.arange(0, 32, 2) / 32)
    factors = (plain / frequencies).numpy()
    file = write_gguf(tmp_path / "model.gguf", model, tensors={"rope_freqs.weight": factors})
    again = AutoModelForCausalLM.from_pretrained(converted(file, tmp_path / "model"))
    ids = [7 * n % 250 for n in range(200)]
    assert torch.equal(logits(again, ids), logits(model, ids))
    other = write_gguf(
        tmp_path / "other.gguf", model, tensors={"rope_freqs.weight": factors * np.linspace(1, 2, 16, dtype="f4")}
    )
    with pytest.raises(BadInput, match="not Llama 3's"):
        read_model(other)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_the_tokenizer_splits_digits_as_its_family_does_and_loses_no_byte(tmp_path, splitting) -> None:
    model = tiny_model("qwen3")
    file = write_gguf(tmp_path / "model.gguf", model, metadata={"tokenizer.ggml.pre": splitting})
    encoding = ChatEncoding(converted(file, tmp_path / "model"), 512)
    tokens = byte_tokens()
    begins = [tokens.index("<|begin|>")] if SPLITTINGS[splitting].whole_words else []
    for text in TEXTS:
        ids = encoding.encode(GenerationRequest(prompt=text, sampling=Sampling(), count=1, seed=0))
        assert list(ids[: len(begins)]) == begins
        assert encoding.decode(ids[len(begins) :]) == text
        assert not {tokens.index(token) for token in ("<|end|>", "<|turn|>")} & set(ids)
    together = "12" in AutoTokenizer.from_pretrained(tmp_path / "model").tokenize("ab12ab")
    assert together == (splitting in ("gpt-2", "llama-bpe", "llama3", "llama-v3"))


def test_a_tokenizer_that_transformers_would_change_is_refused(tmp_path) -> None:
    # Whatever its file says, transformers lets a Qwen2 split text as Qwen2 does.
    file = write_gguf(tmp_path / "model.gguf", tiny_model("qwen2"), metadata={"tokenizer.ggml.pre": "llama-bpe"})
    with pytest.raises(BadInput, match="is not one of a qwen2"):
        converted(file, tmp_path / "model")


def test_conversations_and_ends_are_those_of_the_file(tmp_path) -> None:
    turn = byte_tokens().index("<|turn|>")
    metadata = {"tokenizer.ggml.eot_token_id": turn, "tokenizer.ggml.padding_token_id": 10_000}
    file = write_gguf(tmp_path / "model.gguf", tiny_model("qwen2"), metadata=metadata)
    encoding = ChatEncoding(converted(file, tmp_path / "model"), 512)
    assert encoding.ends == {turn, byte_tokens().index("<|end|>")}
    ids = encoding.encode(GenerationRequest(prompt="hi", system="be brief", sampling=Sampling(), count=1, seed=0))
    text = "<|turn|>system\nbe brief<|end|><|turn|>user\nhi<|end|><|turn|>assistant"
    assert encoding.decode(ids) == text
    assert ids.count(turn) == 3


REFUSED = [
    ({"general.architecture": "gemma3"}, {}, "architecture 'gemma3', and those of llama, qwen2, qwen3 are converted"),
    ({"general.architecture": "clip"}, {}, "image encoder"),
    ({"general.type": "mmproj"}, {}, "image encoder"),
    ({"general.type": "adapter"}, {}, "no model but something of the type 'adapter'"),
    ({"split.count": 2}, {}, "one part of a split model"),
    ({"tokenizer.ggml.tokens": None}, {}, "no tokenizer"),
    ({"tokenizer.ggml.model": "llama"}, {}, "only byte-level BPE"),
    ({"tokenizer.ggml.pre": "tekken"}, {}, "splits text as 'tekken', and known are gpt-2"),
    ({"qwen2.rope.scaling.type": "yarn"}, {}, "scales its rotary embeddings"),
    ({"qwen2.block_count": 3}, {}, r"lacks the tensor blk\.2"),
    ({"qwen2.block_count": 2**31}, {}, "fewer tensors than layers"),
    ({"qwen2.block_count": 1}, {}, "unknown tensor blk"),
    ({"qwen2.embedding_length": 96}, {}, "of the shape"),
    ({"qwen2.attention.head_count": "many"}, {}, "attention.head_count that is a size"),
    ({"qwen2.context_length": 0}, {}, "context_length that is a size"),
    ({"qwen2.rope.dimension_count": 8}, {}, "heads of unequal sizes"),
    ({"qwen2.rope.freq_base": "fast"}, {}, "metadata of a wrong kind"),
    ({"split.count": [1, 2]}, {}, "metadata of a wrong kind"),
    ({"tokenizer.ggml.pre": [1, 2]}, {}, "metadata of a wrong kind"),
    ({}, {"token_embd.weight": None}, r"tensor token_embd\.weight"),
    ({}, {"blk.0.attn_q.bias": None}, r"lacks the tensor blk\.0\.attn_q\.bias"),
    ({}, {"extra.weight": np.ones((2, 32), "f4")}, r"unknown tensor extra\.weight"),
    ({}, {"output_norm.weight": np.ones(32, "f4")}, r"output_norm\.weight of the shape \(32,\), not \(64,\)"),
]


@pytest.mark.parametrize(("metadata", "tensors", "words"), REFUSED)
def test_what_cannot_be_converted_whole_is_a_sentence(tmp_path, metadata, tensors, words) -> None:
    file = write_gguf(tmp_path / "model.gguf", tiny_model("qwen2"), metadata=metadata, tensors=tensors)
    with pytest.raises(BadInput, match=words) as refused:
        read_model(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path) -> None:
    file = write_gguf(tmp_path / "model.gguf", tiny_model("qwen2"), tensors={"output_norm.weight": np.full(64, np.inf, "f4")})
    with pytest.raises(BadInput, match=r"output_norm\.weight that are no finite numbers"):
        converted(file, tmp_path / "model")


def test_a_part_is_known_by_its_name_and_a_missing_file_too(tmp_path) -> None:
    file = write_gguf(tmp_path / "model-00001-of-00002.gguf", tiny_model("qwen2"))
    with pytest.raises(BadInput, match="one part of a split model"):
        read_model(file)
    with pytest.raises(BadInput, match="There is no file"):
        read_model(tmp_path / "none.gguf")


def header(*parts: bytes, tensors: int = 0, pairs: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + b"".join(parts)


def text(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


HOSTILE = {
    "nothing": b"",
    "another file": b"PK\x03\x04" + bytes(100),
    "an old version": header(version=1),
    "the other byte order": header(version=3 << 24),
    "endless pairs": header(pairs=2**63),
    "endless tensors": header(tensors=2**63),
    "an endless text": header(text(b"key", 2**62), pairs=1),
    "an endless list of numbers": header(text(b"key"), struct.pack("<IIQ", 9, 0, 2**60), pairs=1) + bytes(99),
    "an endless list of texts": header(text(b"key"), struct.pack("<IIQ", 9, 8, 2**60), pairs=1) + bytes(99),
    "lists in lists": header(text(b"key"), struct.pack("<IIQ", 9, 9, 1) * 1000, pairs=1),
    "an unknown kind": header(text(b"key"), struct.pack("<I", 77), pairs=1) + bytes(99),
    "no text": header(text(b"\xff\xfe"), struct.pack("<IB", 0, 1), pairs=1),
    "a key twice": header(*2 * [text(b"key"), struct.pack("<IB", 0, 1)], pairs=2),
    "no alignment": header(text(b"general.alignment"), struct.pack("<II", 4, 0), pairs=1),
    "too many dimensions": header(text(b"t"), struct.pack("<I", 2**31), tensors=1) + bytes(99),
    "a size that overflows": header(text(b"t"), struct.pack("<I4QIQ", 4, *4 * [2**40], 0, 0), tensors=1),
    "an empty tensor": header(text(b"t"), struct.pack("<I2QIQ", 2, 32, 0, 0, 0), tensors=1),
    "a tensor behind the end": header(text(b"t"), struct.pack("<I1QIQ", 1, 32, 0, 2**62), tensors=1),
    "an unknown type": header(text(b"t"), struct.pack("<I1QIQ", 1, 32, 999, 0), tensors=1),
    "half a block": header(text(b"t"), struct.pack("<I1QIQ", 1, 33, 8, 0), tensors=1) + bytes(999),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_a_sentence(tmp_path, what) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(HOSTILE[what])
    with pytest.raises(BadInput) as refused:
        read_header(file)
    assert "\n" not in str(refused.value)


def test_any_cut_and_any_wrong_byte_is_a_sentence_or_harmless(tmp_path) -> None:
    whole = write_gguf(tmp_path / "model.gguf", tiny_model("qwen3")).read_bytes()
    file, chance = tmp_path / "changed.gguf", random.Random(0)
    for _ in range(300):
        content = bytearray(whole if chance.random() < 0.7 else whole[: chance.randrange(1, 20_000)])
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(min(len(content), 12_000))] = chance.randrange(256)
        file.write_bytes(content)
        # Anything else than a sentence, or no end, fails.
        with suppress(BadInput):
            read_model(file)


@pytest.mark.skipif(not REAL.is_file(), reason="GASP_GGUF names no file of SmolLM2-135M-Instruct")
def test_a_real_file_gives_the_weights_that_transformers_gives(tmp_path) -> None:
    folder = converted(REAL, tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    transformers_own = AutoModelForCausalLM.from_pretrained(REAL.parent, gguf_file=REAL.name, dtype=torch.float32)
    for (name, ours), theirs in zip(again.named_parameters(), transformers_own.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [2]}
    assert AutoConfig.from_pretrained(folder).rope_parameters["rope_theta"] == 100_000
