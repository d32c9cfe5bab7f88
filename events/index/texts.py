"""Texts that events point to: questions, completions, and where in them a search found its words.

Law: read from the log and kept for a while, because neighbouring events ask for the same ones. Whatever a model wrote comes out
as text that a database takes; whoever shows it makes it safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from events.facts.log import ReadableLog
from events.facts.values import BlobHash, Question
from events.text.safe_text import one_line

CACHE_SIZE = 512
"""Questions, and lists of completions, that are kept at hand."""
BEFORE, WIDTH = 40, 160
"""Characters of an excerpt: at most so many stand before what was found, and so many are there in all."""

_WORD = re.compile(r"[^\W_]+")

Kept = TypeVar("Kept")


class TextCache:
    """The texts of one log."""

    def __init__(self, log: ReadableLog) -> None:
        self._log = log
        self._questions: dict[str, Question] = {}
        self._completions: dict[str, list[str]] = {}

    def question(self, blob: BlobHash) -> Question:
        """A question by its blob."""
        return _kept(self._questions, blob, lambda: Question.model_validate_json(self._log.get(blob)))

    def completions(self, blob: BlobHash) -> list[str]:
        """Completions by their blob."""
        return _kept(self._completions, blob, lambda: [storable_text(text) for text in json.loads(self._log.get(blob))])


def searchable_text(question: Question) -> str:
    """The texts of a question that are searched."""
    return storable_text(f"{question.statement}\n{question.program or ''}")


def storable_text(text: str) -> str:
    """The text without halves of surrogate pairs, which no database takes, and without the character that ends its strings."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def excerpt(texts: Sequence[str], wanted: Sequence[str]) -> str:
    """A line around the first place where a text has one of the wanted words or phrases; empty where none has."""
    for phrase in wanted:
        pattern = re.compile(r"(?<![^\W_])" + r"[\W_]+".join(_WORD.findall(phrase)), re.IGNORECASE)
        for text in texts:
            if found := pattern.search(text):
                start = max(found.start() - BEFORE, 0)
                return ("…" if start else "") + one_line(text[start : start + 2 * WIDTH], WIDTH)
    return ""


def _kept(kept: dict[str, Kept], key: str, read: Callable[[], Kept]) -> Kept:
    # Threads share it: what is there may be gone the next moment.
    value = kept.get(key)
    if value is None:
        value = read()
        if len(kept) >= CACHE_SIZE:
            kept.clear()
        kept[key] = value
    return value
