"""Makes hostile text safe to show: programs, statements and error messages of models and from outside.

All text that goes to a terminal or into rich markup and is not the project's own passes through here.
"""

from __future__ import annotations

import re

from rich.markup import escape

# C0 and C1 control characters (escape sequences start with one), marks that reorder or hide text, halves of surrogate pairs.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


MAX_MARKUP_LENGTH = 4_000
"""Characters of a line of markup: rich takes quadratic time for a run of backslashes."""


def clean(text: str) -> str:
    """The text without control characters; line ends and tabs stay."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int | None = None) -> str:
    """The clean text on one line, cut to `limit` characters if asked."""
    line = " ".join(clean(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"


def printable(text: str) -> str:
    """The text with every unprintable character replaced, line ends too; for names."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def markup(text: str, limit: int = MAX_MARKUP_LENGTH) -> str:
    """One line for rich in which no tag takes effect. A backslash at its end may show twice."""
    # Cut before it is cleaned as well: most of a huge text would be cleaned for nothing.
    return escape(one_line(text[: 8 * limit], limit))
