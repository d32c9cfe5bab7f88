"""The error for an address of something that does not exist (status 404)."""

from __future__ import annotations

from events.facts.errors import BadInput


class NotFound(BadInput):
    """What the address names does not exist; the message says what does."""
