"""A cache of the questions and completions that events refer to, and excerpts of them around matches.

Completions are returned as text that databases take; whoever shows them makes them safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from events.facts.log import ReadableLog
from events.facts.questions import parse_question
from events.facts.values import BlobHash, Question
from events.text.safe_text import one_line

CACHE_SIZE = 512
"""Most entries of a cache."""
BEFORE, WIDTH = 40, 160
"""Characters of an excerpt: most before the match, and in all."""

_WORD = re.compile(r"[^\W_]+")

T = TypeVar("T")


class TextCache:
    """Questions and completions of a log, cached because neighbouring events refer to the same ones."""

    def __init__(self, log: ReadableLog) -> None:
        self._log = log
        self._questions: dict[str, Question] = {}
        self._completions: dict[str, list[str]] = {}
        self._loaded: dict[BlobHash, bytes] = {}

    def load(self, blobs: Collection[BlobHash]) -> None:
        """Read blobs that are about to be asked for together, and forget those of the call before."""
        self._loaded = self._log.get_many([blob for blob in blobs if blob not in self._questions])

    def question(self, blob: BlobHash) -> Question:
        """A question by its blob."""
        return cached(self._questions, blob, lambda: parse_question(blob, self._content(blob)))

    def completions(self, blob: BlobHash) -> list[str]:
        """Completions by their blob."""
        return cached(self._completions, blob, lambda: [storable_text(text) for text in json.loads(self._content(blob))])

    def _content(self, blob: BlobHash) -> bytes:
        return self._loaded.get(blob) or self._log.get(blob)


def searchable_text(question: Question) -> str:
    """The text of a question that is searched."""
    return storable_text(f"{question.statement}\n{question.program or ''}")


def storable_text(text: str) -> str:
    """The text without halves of surrogate pairs and without NUL, which databases refuse."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def excerpt(texts: Sequence[str], wanted: Sequence[str]) -> str:
    """A line around the first match of a word or phrase in the texts; empty without a match."""
    for phrase in wanted:
        pattern = re.compile(r"(?<![^\W_])" + r"[\W_]+".join(_WORD.findall(phrase)), re.IGNORECASE)
        for text in texts:
            if match := pattern.search(text):
                start = max(match.start() - BEFORE, 0)
                return ("…" if start else "") + one_line(text[start : start + 2 * WIDTH], WIDTH)
    return ""


def cached(cache: dict[str, T], key: str, read: Callable[[], T]) -> T:
    """The value of a key, read unless it is in the cache."""
    # Threads share the cache: an entry may be gone the next moment.
    value = cache.get(key)
    if value is None:
        value = read()
        if len(cache) >= CACHE_SIZE:
            cache.clear()
        cache[key] = value
    return value
