"""Names weights by their content.

Law: a policy's digest is the SHA-256 over the names and bytes of the files that decide what it says, and of nothing
else (optimizer state and notes do not count). It loads no weights and needs no torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from events.errors import ModelError
from events.values import Digest

_FILES: Final = ("config.json", "tokenizer.json")
_CHUNK: Final = 1 << 20


def weights_digest(folder: Path) -> Digest:
    """The digest of a weights folder in Hugging Face format: config, tokenizer, every safetensors shard of the model.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    shards = sorted(p.name for p in folder.glob("model*.safetensors"))
    if not shards:
        raise ModelError(f"No model*.safetensors in {folder}; give a folder that holds a model in Hugging Face format")
    total = hashlib.sha256()
    for name in sorted([*_FILES, *shards]):
        try:
            with (folder / name).open("rb") as file:
                content = hashlib.sha256()
                while chunk := file.read(_CHUNK):
                    content.update(chunk)
        except OSError as error:
            raise ModelError(f"{name} of the weights in {folder} cannot be read ({error}); is the copy whole?") from error
        total.update(f"{name}\0{content.hexdigest()}\n".encode())
    return Digest(total.hexdigest())
