"""The error for an address that names something that is not there (404)."""

from __future__ import annotations

from typing import TypeVar

from events.facts.errors import BadInput


class NotFound(BadInput):
    """What the address names is not there; the message says what is."""


T = TypeVar("T")


def require(value: T | None, sentence: str) -> T:
    """The value, which is there.

    Raises:
        NotThere: it is None; says the sentence.
    """
    if value is None:
        raise NotFound(sentence)
    return value
