"""Digests of weights folders.

- A policy's digest is the SHA-256 over the names and bytes of the files that decide what it samples, and of nothing else.
- The optimizer's state has a digest of its own.
- An adapter's configuration names its base by digest, so that the adapter's digest covers both.

It loads no weights and needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from events.facts.errors import ModelError
from events.facts.values import Digest

OPTIMIZER_FILE: Final = "optimizer.moments"
"""The optimizer's state beside the weights; in safetensors' format, but not named so, because servers load every file of that
name as weights."""
ADAPTER_FILE: Final = "adapter_model.safetensors"
"""The tensors of an adapter, in peft's format."""
ADAPTER_CONFIG_FILE: Final = "adapter_config.json"
"""An adapter's shape and base, in peft's format."""
_FILES: Final = ("config.json", "tokenizer.json")
_CHUNK: Final = 1 << 20


def weights_digest(folder: Path) -> Digest:
    """The digest of a weights folder in Hugging Face format: config, tokenizer, every safetensors shard; or of an adapter.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    shards = sorted(p.name for p in folder.glob("model*.safetensors"))
    adapted = (folder / ADAPTER_CONFIG_FILE).exists()
    if not shards and not adapted:
        raise ModelError(f"No model*.safetensors in {folder}; give a folder that holds a model in Hugging Face format.")
    total = hashlib.sha256()
    for name in (ADAPTER_CONFIG_FILE, ADAPTER_FILE) if adapted else sorted([*_FILES, *shards]):
        total.update(f"{name}\0{_file_hash(folder / name)}\n".encode())
    return Digest(total.hexdigest())


def optimizer_digest(folder: Path) -> Digest | None:
    """The digest of the optimizer's state beside the weights, None where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    return Digest(_file_hash(folder / OPTIMIZER_FILE)) if (folder / OPTIMIZER_FILE).exists() else None


def adapter_base(folder: Path) -> Path | None:
    """The folder of an adapter's base, beside it and checked against its name; None for weights that are no adapter.

    Raises:
        ModelError: the base is missing or another, or the adapter does not name one.
    """
    if not (folder / ADAPTER_CONFIG_FILE).exists():
        return None
    try:
        base = folder.parent / str(json.loads((folder / ADAPTER_CONFIG_FILE).read_text())["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{ADAPTER_CONFIG_FILE} in {folder} names no base ({error!r}); restore the folder.") from error
    if not base.is_dir() or weights_digest(base) != base.name:
        message = f"The adapter in {folder} needs the base {base}, which is missing or was changed"
        raise ModelError(f"{message}; restore that folder.")
    return base


def _file_hash(file: Path) -> str:
    content = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                content.update(chunk)
    except OSError as error:
        raise ModelError(f"{file.name} of the weights in {file.parent} cannot be read ({error}); is the copy whole?") from error
    return content.hexdigest()
