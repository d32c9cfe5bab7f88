"""Builds the tokenizer of a GGUF file, in the fast format, from its metadata.

Only byte-level BPE is built, and only for those ways to split text that are known here: a tokenizer that splits otherwise than
the one that the model learned with would give other tokens without a word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import BadInput
from events.text.safe_text import one_line
from roles.models.gguf_header import GgufHeader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Splitting:
    """How a tokenizer splits text before it merges bytes."""

    pattern: str | None = None
    """Regular expression of the pieces; None is GPT-2's."""
    single_digits: bool = False
    nfc: bool = False
    """Whether text is first brought into Unicode's composed form."""
    whole_words: bool = False
    """Whether a piece that is a token is taken without merging; such tokenizers also begin a text with the begin token."""


_QWEN: Final = Splitting(_WORDS.replace("DIGITS", ""), nfc=True)
_LLAMA: Final = Splitting(_WORDS.replace("DIGITS", "{1,3}"), whole_words=True)
_DIGITS: Final = Splitting(single_digits=True)
SPLITTINGS: Final = {
    "gpt-2": Splitting(),
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
    "llama-bpe": _LLAMA,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
}
"""By llama.cpp's name (`tokenizer.ggml.pre`), as in its `llama-vocab.cpp`."""
_PROBE: Final = "def f(x):\n\n    return  x[12:345], 'it's' + \"½ e\u0301 日本\"\r\n"
"""A text that splittings split differently."""
_CONTROL: Final = 3
_USER_DEFINED: Final = 4
_ENDS: Final = ("eos", "eot", "eom")
"""Tokens that end a completion, by their names in the metadata: of text, of a turn, of a message."""


def tokenizer_objection(header: GgufHeader) -> str | None:
    """Why the file's tokenizer cannot be built, as a sentence; None if it can."""
    kind, splitting = _meta(header, "model"), _meta(header, "pre")
    original = "give the folder or the hub's name of the original model"
    if not _is_texts(_meta(header, "tokens")):
        return f"{header.file} has no tokenizer; {original}."
    if kind != "gpt2" or not _is_texts(_meta(header, "merges")):
        named = one_line(str(kind), 40)
        return f"{header.file} has a tokenizer of the kind {named!r}, and only byte-level BPE is built; {original}."
    if splitting not in SPLITTINGS:
        known = ", ".join(SPLITTINGS)
        return f"{header.file} splits text as {one_line(str(splitting), 40)!r}, and known are {known}; {original}."
    return None


def has_chat_template(header: GgufHeader) -> bool:
    """Whether the file has a chat template."""
    template = header.metadata.get("tokenizer.chat_template")
    return isinstance(template, str) and bool(template)


def token_ids(header: GgufHeader) -> dict[str, int]:
    """The ids of special tokens by their names in the metadata, such as `eos`; those that are no tokens are left out."""
    ids = {name: _meta(header, f"{name}_token_id") for name in (*_ENDS, "bos", "padding")}
    count = len(_meta(header, "tokens"))
    return {name: number for name, number in ids.items() if isinstance(number, int) and 0 <= number < count}


def write_tokenizer(header: GgufHeader, folder: Path) -> None:
    """Write tokenizer, chat template and ids of the end tokens beside a `config.json`; BadInput if they do not fit together."""
    tokens, ids = _meta(header, "tokens"), token_ids(header)
    named = {name: tokens[number] for name, number in ids.items()}
    try:
        built = _tokenizer(header, tokens, named.get("bos"))
        built.save(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers, which is written in Rust, raises nothing narrower
        raise BadInput(
            f"The tokenizer of {header.file} cannot be built ({one_line(str(error), 200)}); download it again."
        ) from error
    special = {f"{name}_token": named.get(key) for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
    _write(folder / "tokenizer_config.json", tokenizer_class="TokenizersBackend", clean_up_tokenization_spaces=False, **special)
    _write(folder / "generation_config.json", eos_token_id=sorted({ids[name] for name in _ENDS if name in ids}))
    if has_chat_template(header):
        (folder / "chat_template.jinja").write_text(str(header.metadata["tokenizer.chat_template"]), encoding="utf-8")
    _check(header, folder, built.encode(_PROBE).ids)


def _check(header: GgufHeader, folder: Path, ids: list[int]) -> None:
    """Check that transformers, which has ways of its own with some families, gives a text the ids that it should have."""
    from transformers import AutoTokenizer

    try:
        loaded: list[int] = AutoTokenizer.from_pretrained(folder, local_files_only=True)(_PROBE)["input_ids"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"The tokenizer of {header.file} cannot be loaded ({one_line(str(error), 200)}); give another."
        ) from error
    if loaded != ids:
        raise BadInput(f"The tokenizer of {header.file} is not one of a {header.architecture}; give the original model.")


def _tokenizer(header: GgufHeader, tokens: list[str], begin: str | None) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    splitting = SPLITTINGS[_meta(header, "pre")]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in _meta(header, "merges"))]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=splitting.whole_words))
    if splitting.nfc:
        built.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if splitting.single_digits else []
    if splitting.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(splitting.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None))
    built.pre_tokenizer = pre_tokenizers.Sequence(steps)
    built.decoder = decoders.ByteLevel()
    for kind in (_CONTROL, _USER_DEFINED):
        of_kind = [text for text, number in zip(tokens, _meta(header, "token_type", ()), strict=False) if number == kind]
        built.add_tokens([AddedToken(text, normalized=False, special=kind == _CONTROL) for text in of_kind])
    if begin is not None and _meta(header, "add_bos_token", splitting.whole_words):
        special = [(begin, vocabulary[begin])]
        built.post_processor = processors.TemplateProcessing(single=[begin, "$A"], special_tokens=special)
    return built


def _meta(header: GgufHeader, key: str, default: Any = None) -> Any:
    return header.metadata.get(f"tokenizer.ggml.{key}", default)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _write(file: Path, **content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
