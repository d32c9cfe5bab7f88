"""The error for an address that names something that is not there (404)."""

from __future__ import annotations

from typing import TypeVar

from events.facts.errors import BadInput


class NotThere(BadInput):
    """What the address names is not there; the message says what is."""


T = TypeVar("T")


def found(value: T | None, sentence: str) -> T:
    """The value, which is there.

    Raises:
        NotThere: it is None; says the sentence.
    """
    if value is None:
        raise NotThere(sentence)
    return value
