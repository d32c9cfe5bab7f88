"""Refuses files that begin with a byte order mark, which some editors write."""

from __future__ import annotations

import codecs
from pathlib import Path

from events.facts.errors import BadInput


def refuse_byte_order_mark(path: Path) -> None:
    """Refuse a file that begins with a byte order mark, which would become part of its first word.

    Raises:
        BadInput: it does.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            raise BadInput(f"{path} begins with a byte order mark (BOM); save it as UTF-8 without one.")
