"""Short forms of digests: how many digits people see, and which digest a prefix stands for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from events.facts.errors import BadInput
from events.facts.values import Digest

SHORT: Final = 8
"""Digits of a digest or of a question id that messages, tables and pages show."""
NAME_DIGITS: Final = 12
"""Digits of a digest in names of folders, streams and images."""


def find_digest(prefix: str, digests: Iterable[Digest], where: str) -> Digest:
    """The one of the digests that starts with a prefix, or is it; `where` tells the message whose weights they are.

    Raises:
        BadInput: none starts so, or several do.
    """
    fitting = sorted({digest for digest in digests if digest.startswith(prefix)})
    if len(fitting) != 1:
        message = f"{len(fitting) or 'No'} weights of {where} have a digest that starts with {prefix[:64]!r}"
        raise BadInput(f"{message}; give enough digits of a digest that is there.")
    return fitting[0]
