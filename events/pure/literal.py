"""Python literals as text, both ways: one grammar for what enters and what leaves a sandboxed program.

Reading evaluates nothing and takes time in proportion to the text, whatever it holds; writing takes values of exactly the
builtin types and calls no method of anything else. Both answer, or raise `NotLiteral` or `TooLarge`.
Stdlib only and nothing of ours, because this file also lies in the container. It does not compare values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

DEPTH = 100
"""Deepest nesting that is read or written."""
LONG_INT_BITS = 10_000
"""Longer integers are written in hexadecimal, since CPython limits decimal conversion to 4300 digits."""

_SPACE = r"(?:[ \t\n\f]|\\\n|\#[^\n]*+)*+"
_NUMBER = (
    r"(?:0[xX][0-9a-fA-F_]++|0[oO][0-7_]++|0[bB][01_]++"
    r"|(?:[0-9][0-9_]*+\.?[0-9_]*+|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9][0-9_]*+)?[jJ]?|nan\b|inf\b)"
)
_QUOTED = r"""'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'''|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'"""
_STRING = rf"(?:[bB][rR]?|[rR][bB]?|[uU])?(?:{_QUOTED}|{_QUOTED.replace(chr(39), chr(34))})"
# A token and the comma or colon after it. Brackets and plain integers come first: long texts are full of them. Strings in a
# row are one token, and so is a complex number; what is no token is one with all that follows it. All quantifiers are
# possessive or cannot fail late: no text makes them go back.
_TOKEN = re.compile(
    rf"{_SPACE}([][(){{}}]|[0-9]++(?=[],:)}}])|(?:{_STRING}{_SPACE})++"
    rf"|[+-]?{_SPACE}{_NUMBER}(?:{_SPACE}[+-]{_SPACE}{_NUMBER}(?<=[jJ]))?"
    rf"|True\b|False\b|None\b|(?:frozen)?set\(|\Z|.+){_SPACE}([,:]?)",
    re.DOTALL,
)
_STRINGS = re.compile(rf"(?:{_STRING}{_SPACE})++", re.DOTALL)
_PIECE = re.compile(rf"({_STRING})|\#[^\n]*", re.DOTALL)
_TERMS = re.compile(rf"([+-]?){_SPACE}({_NUMBER}){_SPACE}(?:([+-]){_SPACE}({_NUMBER}))?")
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|N\{([^{}]*)\}|(.))", re.DOTALL)
_ESCAPES = dict(zip("abfnrtv\\'\"\n", ("\a", "\b", "\f", "\n", "\r", "\t", "\v", "\\", "'", '"', ""), strict=True))
_CLOSING = {"(": ")", "[": "]", "{": "}", "set(": ")", "frozenset(": ")"}
_OPENS, _CALLS, _CLOSES, _UNKNOWN = object(), object(), object(), object()
_TOKENS: dict[str, object] = {
    **dict.fromkeys("([{", _OPENS),
    **dict.fromkeys(("set(", "frozenset("), _CALLS),
    **dict.fromkeys(")]}", _CLOSES),
    **{"None": None, "True": True, "False": False, "nan": float("nan"), "inf": float("inf")},
}
"""What a token means whatever the text; the values of other tokens are looked up once in each text."""
_NO_KEYS: list[Any] = []

Build = Callable[[str, list[Any], list[Any]], object]
"""Makes a set, frozenset or dict of its kind, its elements or values, and its keys."""


class NotLiteral(ValueError):
    """The text is no literal, or the value is not plain data."""


class TooLarge(ValueError):
    """The literal would be longer than allowed."""


class Unordered:
    """A set, frozenset or dict as it was written, with repeated elements. Nothing is hashed, so nothing can collide."""

    __slots__ = ("items", "keys", "kind")

    def __init__(self, kind: str, items: list[Any], keys: list[Any]) -> None:
        self.kind = kind
        """`set`, `frozenset` or `dict`."""
        self.items = items
        """Elements, or the values of a dict."""
        self.keys = keys
        """Keys of a dict, as many as values."""


def read(text: str) -> object:
    """The value that a literal stands for.

    Beyond `ast.literal_eval` it knows `nan`, `inf`, `frozenset()` and `frozenset` of a display; a tuple needs its brackets.
    Hostile text may make it slow: building a set takes quadratic time if its elements' hashes collide. See `outline`.
    """
    return _single_value(_values(text, _built))


def outline(text: str) -> object:
    """The value that a literal stands for, with `Unordered` for every set and dict, in time in proportion to the text."""
    return _single_value(_values(text, _outlined))


def read_arguments(text: str) -> tuple[object, ...]:
    """The values of comma separated literals: `'ab', 3`. Blank text is no argument."""
    return _all_values(_values(text, _built))


def outline_arguments(text: str) -> tuple[object, ...]:
    """The same as `outline`."""
    return _all_values(_values(text, _outlined))


def without_comments(text: str) -> str:
    """The same literals without comments; what is no literal stays as it is or becomes another one."""
    return _PIECE.sub(lambda match: match[1] or "", text)


def write(value: object, limit: int) -> str:
    """The literal of a value of exactly builtin types, at most `limit` characters long; sets in order of their text."""
    parts: list[str] = []
    _Writer(parts, limit).put(value, 0)
    return "".join(parts)


def _single_value(parsed: tuple[list[Any], list[Any], bool]) -> object:
    items, keys, comma = parsed
    if len(items) != 1 or keys or comma:
        raise NotLiteral("expected one literal")
    return items[0]


def _all_values(parsed: tuple[list[Any], list[Any], bool]) -> tuple[object, ...]:
    items, keys, comma = parsed
    if keys or comma:
        raise NotLiteral("expected literals between commas")
    return tuple(items)


def _values(text: str, build: Build) -> tuple[list[Any], list[Any], bool]:  # noqa: PLR0912  # calls would take longer
    """The values at the top level of a text, its keys (there should be none), and whether a comma was last.

    A stack instead of recursion, few steps a token and few objects a container: this reads whatever a program says.
    """
    # What a token that is no bracket stands for is immutable, so equal tokens of a text can share one value.
    memo = _TOKENS.copy()
    outer: list[tuple[str, list[Any], list[Any], int]] = []
    opening, depth, wanted = "", 0, True
    items: list[Any] = []
    keys = _NO_KEYS
    for token, mark in _TOKEN.findall(_source(text)):
        value = memo.get(token, _UNKNOWN)
        if value is _OPENS or value is _CALLS:
            outer.append((opening, items, keys, depth))
            # A call such as `set(` is no level of its own: in a value, `frozenset({1})` is one container.
            depth += value is _OPENS
            if mark or not wanted or depth > DEPTH:
                raise NotLiteral("nested too deeply" if depth > DEPTH else "a bracket stands where no value can")
            opening, items, keys = token, [], _NO_KEYS
            continue
        if value is _CLOSES:
            if not outer or token != _CLOSING[opening] or (keys and len(keys) != len(items)):
                raise NotLiteral(f"{token} does not fit what it closes")
            if opening == "[":
                value = items
            elif opening == "{":
                value = build("dict" if keys or not items else "set", items, keys)
            elif opening == "(":
                value = items[0] if len(items) == 1 and not wanted else tuple(items)
            else:
                value = build(opening[:-1], _called_with(opening, items, wanted), keys)
            opening, items, keys, depth = outer.pop()
        elif not token:
            break
        elif not wanted:
            raise NotLiteral("expected a comma")
        elif value is _UNKNOWN:
            value = memo[token] = _atom(token)
        if mark == ":":
            if opening != "{" or len(keys) != len(items):
                raise NotLiteral("a colon stands where none can")
            keys = keys or []
            keys.append(value)
        else:
            items.append(value)
        wanted = mark != ""
    if outer or len(keys) > len(items):
        raise NotLiteral("a bracket is not closed" if outer else "expected a value")
    return items, keys, wanted and bool(items)


def _source(text: str) -> str:
    """The text as Python takes it: with one kind of line end, and fit to be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotLiteral("half of a character") from error
    if "\0" in text:
        raise NotLiteral("a null character")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _atom(token: str) -> object:
    """The value of a token that is no bracket."""
    first = token[0]
    if first in "'\"" and token[-1] == first and "\\" not in token and "\n" not in token and token.count(first) == 2:
        return token[1:-1]
    if _STRINGS.fullmatch(token):
        return _text(token)
    if first in "0123456789.+-ni":
        return _numeral(token)
    raise NotLiteral("expected a value")


def _text(token: str) -> object:
    pieces = [_piece(piece) for piece in _PIECE.findall(token) if piece]
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if all(isinstance(piece, bytes) for piece in pieces):
        return b"".join(pieces)
    raise NotLiteral("text and bytes in a row")


def _piece(piece: str) -> Any:
    """The value of one string literal."""
    start = min(index for index in (piece.find("'"), piece.find('"')) if index >= 0)
    prefix, quote = piece[:start].lower(), piece[start]
    # Two quotes alone are an empty string; a triple-quoted one has at least six.
    around = 3 if piece.startswith(quote * 3, start) and len(piece) - start >= 6 else 1
    body = piece[start + around : -around]
    if "b" in prefix and not body.isascii():
        raise NotLiteral("bytes are written in ASCII")
    if "\\" in body and "r" not in prefix:
        body = _ESCAPE.sub(_byte if "b" in prefix else _character, body)
    return body.encode("latin-1") if "b" in prefix else body


def _character(escape: re.Match[str]) -> str:
    """The character that an escape in a text stands for; an unknown one stands for itself."""
    octal, short, middle, long, name, other = escape.groups()
    try:
        if octal is not None:
            return chr(int(octal, 8))
        if name is not None:
            character = unicodedata.lookup(name)
            if len(character) > 1:
                raise NotLiteral("a name of several characters")
            return character
        if other is None:
            return chr(int(short or middle or long, 16))
    except (KeyError, ValueError, OverflowError) as error:
        raise NotLiteral("malformed escape") from error
    if other in "xuUN":
        raise NotLiteral("malformed escape")
    return _ESCAPES.get(other, escape[0])


def _byte(escape: re.Match[str]) -> str:
    octal, short, *_, other = escape.groups()
    if octal is not None:
        # Python keeps the low byte only.
        return chr(int(octal, 8) & 0xFF)
    if short is not None:
        return chr(int(short, 16))
    if other == "x":
        raise NotLiteral("malformed escape")
    return _ESCAPES.get(other, escape[0]) if other is not None else escape[0]


def _numeral(token: str) -> int | float | complex:
    terms = _TERMS.fullmatch(token)
    if terms is None:
        raise NotLiteral("malformed number")
    sign, first_text, operator, second_text = terms.groups()
    first = _number(first_text)
    if sign == "-":
        first = -first
    if second_text is None:
        return first
    second = _number(second_text)
    if isinstance(first, complex) or not isinstance(second, complex):
        raise NotLiteral("sums are not literals")
    try:
        # Not a sum, which would lose the sign of a zero.
        real = -float(-first) if sign == "-" else float(first)
    except OverflowError as error:
        raise NotLiteral("the real part of a complex number is too large") from error
    return complex(real, -second.imag if operator == "-" else second.imag)


def _number(text: str) -> int | float | complex:
    """The value of a number without a sign. Python knows no decimal integers with leading zeros, as they were octal once."""
    try:
        if text.isdigit():
            if text[0] == "0" and text.strip("0"):
                raise NotLiteral("an integer with leading zeros")
            return int(text)
        if text[:2].lower() in ("0x", "0o", "0b"):
            return int(text, 0)
        if text[-1] in "jJ":
            return complex(text)
        if "_" in text and text.replace("_", "").isdigit():
            return int(text, 0)
        return float(text)
    except ValueError as error:
        raise NotLiteral("malformed number") from error


def _called_with(opening: str, items: list[Any], comma: bool) -> list[Any]:
    """The elements of a set that is written as a call. Only those calls that `write` gives are literals."""
    inner = items[0] if items else ()
    if type(inner) is Unordered and inner.kind == "set":
        inner = inner.items
    plain = type(inner) in (list, tuple, set)
    if not plain or len(items) > 1 or (items and (comma or opening == "set(")):
        raise NotLiteral("only set(), frozenset() and frozenset of a display are literals")
    return list(inner)


def _built(kind: str, items: list[Any], keys: list[Any]) -> object:
    """A set, frozenset or dict of Python."""
    try:
        if kind == "dict":
            return dict(zip(keys, items, strict=True))
        return set(items) if kind == "set" else frozenset(items)
    except TypeError as error:
        raise NotLiteral("unhashable element") from error


def _outlined(kind: str, items: list[Any], keys: list[Any]) -> object:
    """The same, without a hash of anything; the empty ones are shared."""
    for element in keys or items:
        if type(element) in _CONTAINERS and not _hashable(element):
            raise NotLiteral("unhashable element")
    return Unordered(kind, items, keys) if items else _EMPTY[kind]


_CONTAINERS = frozenset({tuple, list, Unordered})
_EMPTY = {kind: Unordered(kind, [], []) for kind in ("set", "frozenset", "dict")}


def _hashable(value: Any) -> bool:
    kind = type(value)
    if kind is tuple:
        return all(map(_hashable, value))
    return kind is not list and (kind is not Unordered or value.kind == "frozenset")


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
            # Measured before it is written, since the digits of a huge integer could fill the memory.
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
            for index, (key, item) in enumerate(value.items()):
                self._add(", " if index else "")
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
            for index, item in enumerate(value):
                self._add(", " if index else "")
                self.put(item, depth)
            self._add(closing)

    def _apart(self, value: object, depth: int) -> str:
        parts: list[str] = []
        _Writer(parts, self._room).put(value, depth)
        return "".join(parts)
