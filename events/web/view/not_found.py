"""The error for an address of something that does not exist (status 404)."""

from __future__ import annotations

from typing import TypeVar

from events.facts.errors import BadInput


class NotFound(BadInput):
    """What the address names does not exist; the message says what does."""


T = TypeVar("T")


def require(value: T | None, message: str) -> T:
    """The value.

    Raises:
        NotFound: it is None; with this message.
    """
    if value is None:
        raise NotFound(message)
    return value
