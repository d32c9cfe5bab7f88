"""Highlights Python as spans with CSS classes.

Guarantees: any text comes out unchanged but for escaping and control characters; a text that is too long stays plain.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer

from events.text.safe_text import clean

LONGEST: Final = 16_000
"""A program with more characters stays plain."""
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
"""CSS classes by prefix of pygments' token types."""


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
