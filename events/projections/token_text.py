"""Text of each token of a completion, by the tokenizer beside the run's weights, for people to look at.

All weights of a run share one tokenizer: where a policy's own weights were pruned, another policy's tokenizer is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from events.facts.values import Digest
from events.stores import is_url

_MAX_PENDING: Final = 8
"""Tokens that may share a character, at most; a character has fewer bytes."""
_UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"


def token_texts(where: str, policy: Digest, ids: Sequence[int]) -> list[str] | None:
    """One text a token, which make the completion together; None where the run's tokenizer is not at hand.

    Where a character spans several tokens, the last of them has it and the others have an empty text.
    """
    file = _tokenizer(where, policy)
    if file is None:
        return None
    decode = _decoder(file, file.stat().st_mtime_ns)
    return None if decode is None else list(_split(decode, [max(0, token) for token in ids]))


@lru_cache(maxsize=1)
def _decoder(file: Path, _: int) -> Callable[[list[int]], str] | None:
    """Decodes token ids; None where the file is damaged. Cached, because a real tokenizer takes half a second to load."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # what it raises has no class of its own
        return None
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))


def _tokenizer(where: str, policy: Digest) -> Path | None:
    if is_url(where):
        return None
    path = Path(where)
    weights = (path if path.is_dir() else path.parent) / "weights"
    files = {file.parent.name: file for file in sorted(weights.glob("*/tokenizer.json"))}
    return files.get(policy) or next(iter(files.values()), None)


def _split(decode: Callable[[list[int]], str], ids: list[int]) -> list[str]:
    """Each token's text, decoded after the token before it, because decoders treat the first token of a text differently."""
    texts: list[str] = []
    before = done = 0
    for end in range(1, len(ids) + 1):
        prefix, text = decode(ids[before:done]), decode(ids[before:end])
        # A character may span tokens: wait for the rest of its bytes.
        if text.endswith(_UNFINISHED) and end < len(ids) and end - done < _MAX_PENDING:
            texts.append("")
            continue
        texts.append(text[len(prefix) :])
        before, done = done, end
    return texts
