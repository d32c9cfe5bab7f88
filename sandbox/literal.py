"""Python literals as text, both ways: one grammar for what enters and what leaves a sandboxed program.

Law: `read` evaluates nothing and is safe on hostile text of any shape; `write` takes values of exactly the builtin types
and calls no method of anything else. Both are total: they answer, or raise `NotLiteral` or `TooLarge`.
Stdlib only and nothing of ours, because this file also lies in the container. It does not compare values.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

DEPTH = 100
"""Deepest nesting that is read or written."""
LONG_INT_BITS = 10_000
"""Longer integers are written in hexadecimal, since CPython limits decimal conversion to 4300 digits."""

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
    (?P<text>(?:[bB][rR]?|[rR][bB]?|[uU])?(?:
        \"\"\"(?:[^\\"]|\\.|"(?!""))*\"\"\" | '''(?:[^\\']|\\.|'(?!''))*'''
        | "[^"\\\n]*(?:\\.[^"\\\n]*)*" | '[^'\\\n]*(?:\\.[^'\\\n]*)*' ))
    | (?P<number>(?:0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+
        | (?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)[jJ]?)
    | (?P<name>[A-Za-z_]+)
    | (?P<mark>[][(){},:+-])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_NAMES: dict[str, object] = {"None": None, "True": True, "False": False}
_FLOATS = {"nan": float("nan"), "inf": float("inf")}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class NotLiteral(ValueError):
    """The text is no literal, or the value is not plain data."""


class TooLarge(ValueError):
    """The literal would be longer than allowed."""


def read(text: str) -> object:
    """The value that a literal stands for.

    Beyond `ast.literal_eval` it knows `nan`, `inf`, `set()`, `frozenset()` and `frozenset({...})`; it has no comments.
    """
    return _Reader(text).whole()


def read_arguments(text: str) -> tuple[object, ...]:
    """The values of comma separated literals: `'ab', 3`. Blank text is no argument."""
    if not text.strip():
        return ()
    value = read(f"({text}\n,)")
    assert isinstance(value, tuple)
    return value


def write(value: object, limit: int) -> str:
    """The literal of a value of exactly builtin types, at most `limit` characters long; sets in order of their text."""
    parts: list[str] = []
    _Writer(parts, limit).put(value, 0)
    return "".join(parts)


class _Reader:
    """Recursive descent over tokens; depth is bounded, so no text can exhaust the stack."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._depth = 0
        self._token = ("", "")
        self._next()

    def _next(self) -> tuple[str, str]:
        taken = self._token
        self._token = next(self._tokens, ("end", ""))
        return taken

    def _expect(self, mark: str) -> None:
        if self._next() != ("mark", mark):
            raise NotLiteral(f"expected {mark}")

    def whole(self) -> object:
        value = self.value()
        if self._token[0] != "end":
            raise NotLiteral("text goes on after the literal")
        return value

    def value(self) -> object:
        kind, token = self._token
        if kind == "text":
            return self._string()
        if kind == "number" or token in ("+", "-") or token in _FLOATS:
            return self._number()
        if kind == "name":
            return self._name()
        if token in _CLOSING:
            return self._container()
        raise NotLiteral("expected a value")

    def _string(self) -> object:
        pieces = []
        while self._token[0] == "text":
            pieces.append(self._next()[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unknown escapes are the writer's business
            try:
                return ast.literal_eval(" ".join(pieces))
            except (ValueError, SyntaxError) as error:
                raise NotLiteral("malformed string") from error

    def _number(self) -> object:
        first = self._signed()
        if self._token[1] in ("+", "-") and self._token[0] == "mark" and isinstance(first, (int, float)):
            second = self._signed()
            if not isinstance(second, complex):
                raise NotLiteral("sums are not literals")
            return first + second
        return first

    def _signed(self) -> int | float | complex:
        sign = self._next()[1] if self._token[1] in ("+", "-") else "+"
        kind, token = self._next()
        if token in _FLOATS:
            number: int | float | complex = _FLOATS[token]
        elif kind == "number":
            number = _number(token)
        else:
            raise NotLiteral("expected a number")
        return -number if sign == "-" else number

    def _name(self) -> object:
        name = self._next()[1]
        if name in _NAMES:
            return _NAMES[name]
        if name not in ("set", "frozenset"):
            raise NotLiteral(f"{name[:20]} is not a literal")
        self._expect("(")
        inner: object = () if self._token == ("mark", ")") else self.value()
        self._expect(")")
        if not isinstance(inner, (tuple, list, set)) or (name == "set" and inner != ()):
            raise NotLiteral("only set(), frozenset() and frozenset of a display are literals")
        return set() if name == "set" else _hashable(lambda: frozenset(inner))

    def _container(self) -> object:
        self._depth += 1
        if self._depth > DEPTH:
            raise NotLiteral("nested too deeply")
        opening = self._next()[1]
        closing = _CLOSING[opening]
        items: list[object] = []
        keys: list[object] = []
        comma = False
        while self._token != ("mark", closing):
            item = self.value()
            if opening == "{" and (keys or not items) and self._token == ("mark", ":"):
                self._next()
                keys.append(item)
                item = self.value()
            items.append(item)
            comma = self._token == ("mark", ",")
            if not comma and self._token != ("mark", closing):
                raise NotLiteral("expected a comma")
            if comma:
                self._next()
        self._next()
        self._depth -= 1
        return _built(opening, items, keys, comma)


def _built(opening: str, items: list[object], keys: list[object], comma: bool) -> object:
    if opening == "[":
        return items
    if opening == "(":
        return items[0] if len(items) == 1 and not comma else tuple(items)
    if items and not keys:
        return _hashable(lambda: set(items))
    if len(keys) != len(items):
        raise NotLiteral("a display is either a dict or a set")
    return _hashable(lambda: dict(zip(keys, items, strict=True)))


def _hashable(build: Callable[[], object]) -> object:
    try:
        return build()
    except TypeError as error:
        raise NotLiteral("unhashable element") from error


def _number(token: str) -> int | float | complex:
    try:
        if token[-1] in "jJ" and token[:2].lower() != "0x":
            return complex(token)
        if token[:2].lower() in ("0x", "0o", "0b"):
            return int(token, 0)
        return int(token) if token.replace("_", "").isdigit() else float(token)
    except ValueError as error:
        raise NotLiteral("malformed number") from error


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise NotLiteral("not a token of a literal")
        yield match.lastgroup, match[match.lastgroup]
        place = match.end()


class _Writer:
    """Writes into `parts` and counts, so that a huge or shared value stops at the limit instead of filling memory."""

    def __init__(self, parts: list[str], limit: int) -> None:
        self._parts = parts
        self._room = limit

    def _add(self, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise TooLarge("result is too long")
        self._parts.append(text)

    def put(self, value: Any, depth: int) -> None:
        # Exact types only: a subclass brings methods of its own.
        kind = type(value)
        if kind is tuple or kind is list or kind is dict or kind is set or kind is frozenset:
            if depth >= DEPTH:
                raise NotLiteral("nested too deeply, or contains itself")
            self._put_container(value, kind, depth + 1)
        elif kind is str or kind is bytes:
            if len(value) > self._room:
                raise TooLarge("result is too long")
            self._add(repr(value))
        elif kind is int and value.bit_length() > LONG_INT_BITS:
            if value.bit_length() > 4 * self._room:
                raise TooLarge("result is too long")
            self._add(hex(value))
        elif kind is int or kind is float or kind is complex or kind is bool or value is None:
            text = repr(value)
            if kind is complex and ("n" in text):
                raise NotLiteral("complex numbers that are not finite have no literal")
            self._add(text)
        else:
            raise NotLiteral(f"{kind.__name__} is not plain data")

    def _put_container(self, value: Any, kind: type, depth: int) -> None:
        if kind is dict:
            self._add("{")
            for place, (key, item) in enumerate(value.items()):
                self._add(", " if place else "")
                self.put(key, depth)
                self._add(": ")
                self.put(item, depth)
            self._add("}")
        elif kind is set or kind is frozenset:
            name = "frozenset" if kind is frozenset else "" if value else "set"
            texts = sorted(self._apart(item, depth) for item in value)
            body = "{" + ", ".join(texts) + "}" if texts else ""
            self._add(f"{name}({body})" if name else body)
        else:
            opening, closing = ("[", "]") if kind is list else ("(", ",)" if len(value) == 1 else ")")
            self._add(opening)
            for place, item in enumerate(value):
                self._add(", " if place else "")
                self.put(item, depth)
            self._add(closing)

    def _apart(self, value: object, depth: int) -> str:
        parts: list[str] = []
        _Writer(parts, self._room).put(value, depth)
        return "".join(parts)
