"""Whether a question about a document is one: written in words of its own, and about what the document holds."""

from __future__ import annotations

from typing import Final, Protocol

NGRAM: Final = 6
"""Characters of the pieces by which a statement is compared with a document."""


class Grounding(Protocol):
    """Decides whether a document holds what a statement asks for, where questions come from a world that knows both."""

    def __call__(self, statement: str, document: str, /) -> bool:
        """Whether it does."""
        ...


def copied_share(statement: str, document: str) -> float:
    """Share of a statement's character 6-grams that are in the document, 0 to 1; 0 if it has none."""
    pieces = [statement[start : start + NGRAM] for start in range(len(statement) - NGRAM + 1)]
    return sum(piece in document for piece in pieces) / len(pieces) if pieces else 0.0
