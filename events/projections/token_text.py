"""The text of each token of a completion, by the tokenizer that lies beside the run's weights.

Law: pieces are for people to look at; nothing is ever learned from them. All weights of a run share one tokenizer, so where a
policy's own were given up, another policy's serves. It downloads nothing, and the text is as hostile as the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from events.facts.values import Digest
from events.stores import is_url

_MAX_PENDING: Final = 8
"""Tokens that may share a character at most; more than a character has bytes."""
_UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"


def pieces(where: str, policy: Digest, ids: Sequence[int]) -> list[str] | None:
    """One text a token, together the completion; None where the run has no tokenizer here.

    A token that only begins a character has an empty text, and the one that ends it has the character.

    Args:
        where: what a command line calls the run.
        policy: who sampled the tokens.
        ids: the tokens.
    """
    file = _tokenizer(where, policy)
    if file is None:
        return None
    decode = _decoder(file, file.stat().st_mtime_ns)
    return None if decode is None else list(_split(decode, [max(0, token) for token in ids]))


@lru_cache(maxsize=1)
def _decoder(file: Path, _: int) -> Callable[[list[int]], str] | None:
    """Makes text of tokens; None where the file is damaged. A real model's tokenizer takes half a second to load."""
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
    found = {file.parent.name: file for file in sorted(weights.glob("*/tokenizer.json"))}
    return found.get(policy) or next(iter(found.values()), None)


def _split(decode: Callable[[list[int]], str], ids: list[int]) -> list[str]:
    """Each token's text after the one before it, since a decoder may treat the first of a text differently."""
    texts: list[str] = []
    before = done = 0
    for end in range(1, len(ids) + 1):
        known, text = decode(ids[before:done]), decode(ids[before:end])
        if text.endswith(_UNFINISHED) and end < len(ids) and end - done < _MAX_PENDING:
            texts.append("")
            continue
        texts.append(text[len(known) :])
        before, done = done, end
    return texts
