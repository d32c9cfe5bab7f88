"""Makes hostile text safe to show: control characters become visible marks, so that no completion can steer a terminal."""

from __future__ import annotations

import unicodedata

KEPT = {"\n", "\t"}
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that can steer or disguise: controls, formats (bidirectional marks), surrogates, private use, separators."""


def safe(text: str, limit: int | None = None) -> str:
    r"""The text with every control, format and surrogate character written as `\xNN` or `\uNNNN`, cut to `limit` characters."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(c if c in KEPT or unicodedata.category(c) not in HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
