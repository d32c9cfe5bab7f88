"""The base of all facts (`events.facts.types`)."""

from __future__ import annotations

from typing import ClassVar

from events.facts.values import Value


class Fact(Value):
    """Base of all facts."""

    SCHEMA: ClassVar[int] = 1
