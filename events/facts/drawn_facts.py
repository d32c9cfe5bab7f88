"""Facts about what was drawn for episodes: references, documents, and the pool of questions that documents led to."""

from __future__ import annotations

from typing import Literal

from events.facts.fact import Fact
from events.facts.values import BlobHash, Level, Value


class ReferencesDrawn(Fact):
    """Questions were drawn for the open seat to look at: seeds, or open questions that earlier iterations accepted."""

    kind: Literal["references_drawn"] = "references_drawn"
    references: tuple[BlobHash, ...]
    """The questions, in the order in which they are shown."""


class DocumentDrawn(Fact):
    """A document was drawn for an episode: the open seat writes a question about it, or the student may answer with it."""

    kind: Literal["document_drawn"] = "document_drawn"
    document: BlobHash
    """The document, as a question of its own whose statement, and program if there is one, are its text."""
    level: Level
    """How difficult the question is to be, or was meant to be."""


class PooledQuestion(Value):
    """A question of the pool, and what it was written about."""

    question: BlobHash
    """The question."""
    document: BlobHash
    """The document."""
    level: Level
    """How difficult it was meant to be."""


class PoolMade(Fact):
    """What a frozen teacher wrote about documents became a pool, from which the student learns in this order."""

    kind: Literal["pool_made"] = "pool_made"
    iteration: int
    """The iteration in which the questions were written."""
    questions: tuple[PooledQuestion, ...]
    """The pool, in the order in which it is played."""
    similar: int
    """Questions that were left out because one like them stays."""
