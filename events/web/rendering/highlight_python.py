"""Colours Python as spans with classes.

Law: total on hostile text: whatever is given comes out as itself, escaped and without control characters; what is too long
to be looked at is left plain. No style is written inline, since pages allow none.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer

from events.text.safe_text import clean

LONGEST: Final = 16_000
"""Characters of a program that are coloured."""
_CLASSES: Final = {
    "Token.Comment": "c",
    "Token.Literal.String": "s",
    "Token.Literal.Number": "m",
    "Token.Keyword": "k",
    "Token.Operator.Word": "k",
    "Token.Name.Builtin": "b",
    "Token.Name.Function": "f",
    "Token.Name.Class": "f",
    "Token.Name.Decorator": "d",
}
"""Classes by the beginning of pygments' names of kinds of tokens."""


def highlight(program: str) -> Markup:
    """The program in spans of classes `k` (keyword), `s`, `m` (number), `c` (comment), `b` (builtin), `f` (defined), `d`."""
    text = clean(program)
    if len(text) > LONGEST:
        return escape(text)
    tokens = ((_class(str(kind)), value) for _, kind, value in PythonLexer().get_tokens_unprocessed(text))
    parts: list[Markup] = []
    for name, same in groupby(tokens, key=lambda token: token[0]):
        value = escape("".join(value for _, value in same))
        parts.append(Markup('<span class="{}">{}</span>').format(name, value) if name else value)
    return Markup("").join(parts)


@cache
def _class(kind: str) -> str:
    return next((short for begin, short in _CLASSES.items() if kind.startswith(begin)), "")
