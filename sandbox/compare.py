"""Compares the outputs of a program with the expected ones, on the host, as parsed literals.

Guarantees: answers for any hostile text, in time linear in its length. Text that is no literal equals nothing. Nothing is
evaluated, and nothing that a program chose is hashed but text.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from events.pure.literal import NotLiteral, Unordered, outline, outline_arguments

RELATIVE_TOLERANCE = 1e-9
"""Two floats match within this relative tolerance; zero matches zero only."""
MAX_CHARACTERS = 16 << 20
"""Longer text matches nothing."""
_EXACT = frozenset({int, str, bytes, bool, type(None)})
_NUMBERS = frozenset({int, float, complex})
_BOOL_MARK = "\0"
"""Marks `True` and `False` in a canonical text, where they would else be 1 and 0; no literal has it otherwise."""


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Pause garbage collection: outlines hold no cycles, and searching them for some takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_no_cycle_search()
def outputs_match(expected: str, got: str, mode: Literal["function", "stdin"] = "function") -> bool:
    """Whether `got` matches the expected output.

    Mode `function`: both are Python literals and compare as values. `1 == 1.0` and `1 == 1+0j`, but `True != 1`; two floats
    match within `RELATIVE_TOLERANCE`, an integer only an equal number; `nan` matches `nan`; a tuple is not a list, a frozenset
    not a set, bytes not a str; sets and dicts have no order, and their elements and keys compare exactly.

    Mode `stdin`, as in LiveCodeBench: strip the whole text, split it into lines, strip each; as many lines, and each
    line equal, or equal token by token as decimal numbers.
    """
    if max(len(expected), len(got)) > MAX_CHARACTERS:
        return False
    if mode == "stdin":
        return _stdout_matches(expected, got)
    try:
        # Parsed even if the texts are equal: a text that is no literal equals nothing, not even itself.
        value = outline(got)
        return got == expected or _values_match(outline(expected), value)
    except NotLiteral:
        return False


@_no_cycle_search()
def python_equal(expected: str, got: str) -> bool:
    """Whether `got` equals the expected output by Python's `==`, where a tuple at the top counts as a list.

    This is LiveCodeBench's rule: `3.0 == 3` and `True == 1`, no tolerance for floats, and an inner tuple is not a list.
    """
    if max(len(expected), len(got)) > MAX_CHARACTERS:
        return False
    try:
        left, right = (list(value) if type(value) is tuple else value for value in (outline(expected), outline(got)))
    except NotLiteral:
        return False
    return python_equal_values(left, right)


def canonical_arguments(text: str) -> str:
    """The canonical text of arguments: equal for `'ab',3` and `'ab', 3`; NotLiteral if it is not a list of literals."""
    return canonical_text(outline_arguments(text))


def canonical_text(value: Any) -> str:
    """A text that is equal for equal values (of `outline`), and only for them: `1` and `1.0` are, `1` and `True` are not."""
    kind = type(value)
    if kind is int:
        return hex(value)
    if kind is float or kind is complex:
        return _canonical_number(value)
    if kind is bool:
        return f"{_BOOL_MARK}{value:#x}"
    if kind is list:
        return f"[{','.join(map(canonical_text, value))}]"
    if kind is tuple:
        return f"({','.join(map(canonical_text, value))})"
    if kind is not Unordered:
        return repr(value)
    entries = _unique_entries(value)
    parts = [f"{key}:{canonical_text(item)}" for key, item in entries.items()] if value.kind == "dict" else entries
    return f"{value.kind}{{{','.join(sorted(parts))}}}"


def _canonical_number(value: complex) -> str:
    if isinstance(value, complex):
        real, imaginary = _canonical_number(value.real), _canonical_number(value.imag)
        return real if value.imag == 0 else f"{real}+{imaginary}j"
    if isinstance(value, int):
        return hex(value)
    return hex(int(value)) if value.is_integer() else value.hex()


def _unique_entries(value: Unordered) -> dict[str, Any]:
    """The elements or values of a set or dict by the canonical text of the element or key.

    Of keys that are equal in Python the first one counts, with the last one's value, as when Python builds the dict.
    """
    texts = [*map(canonical_text, value.keys or value.items)]
    if _BOOL_MARK not in "".join(texts):
        return dict(zip(texts, value.items, strict=True))
    kept: dict[str, str] = {}
    return {kept.setdefault(text.replace(_BOOL_MARK, ""), text): item for text, item in zip(texts, value.items, strict=True)}


def _values_match(left: Any, right: Any) -> bool:
    kind = type(left)
    if kind is not type(right):
        return kind in _NUMBERS and type(right) in _NUMBERS and _numbers_match(left, right)
    if kind in _EXACT:
        return bool(left == right)
    if kind is list or kind is tuple:
        return len(left) == len(right) and all(map(_values_match, left, right))
    if kind is float or kind is complex:
        return _numbers_match(left, right)
    if left.kind != right.kind or not (left.items and right.items):
        return left.kind == right.kind and not (left.items or right.items)
    elements, others = left.keys or left.items, right.keys or right.items
    # In the same order, as they usually are, nothing has to be looked up.
    in_order = len(elements) == len(others) and all(map(_elements_match, elements, others))
    if left.kind != "dict":
        return in_order or _unique_entries(left).keys() == _unique_entries(right).keys()
    if len(elements) == len(others) == 1:
        return in_order and _values_match(left.items[0], right.items[0])
    first, second = _unique_entries(left), _unique_entries(right)
    return first.keys() == second.keys() and all(_values_match(item, second[key]) for key, item in first.items())


def _elements_match(left: Any, right: Any) -> bool:
    """Whether elements of sets, or keys, are the same: exactly, and not within a tolerance."""
    kind = type(left)
    return bool(left == right) if kind is type(right) and kind in _EXACT else canonical_text(left) == canonical_text(right)


def _numbers_match(left: complex, right: complex) -> bool:
    """Whether two numbers match; neither is a bool."""
    if isinstance(left, complex) or isinstance(right, complex):
        return _numbers_match(left.real, right.real) and _numbers_match(left.imag, right.imag)
    if isinstance(left, int) or isinstance(right, int):
        return left == right
    return left == right or (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE)


def python_equal_values(left: Any, right: Any) -> bool:
    """Whether two values are equal in Python, as `events.pure.literal.outline` gives them."""
    kind = type(left)
    if kind in (list, tuple):
        return kind is type(right) and len(left) == len(right) and all(map(python_equal_values, left, right))
    if kind is not Unordered or type(right) is not Unordered:
        return kind is not Unordered and bool(left == right)
    first, second = (
        {key.replace(_BOOL_MARK, ""): item for key, item in _unique_entries(value).items()} for value in (left, right)
    )
    are_dicts = left.kind == right.kind == "dict"
    if first.keys() != second.keys() or (not are_dicts and "dict" in (left.kind, right.kind)):
        return False
    return not are_dicts or all(python_equal_values(first[key], second[key]) for key in first)


def _stdout_matches(expected: str, got: str) -> bool:
    left, right = ([line.strip() for line in text.strip().split("\n")] for text in (expected, got))
    return len(left) == len(right) and all(map(_lines_match, left, right))


def _lines_match(left: str, right: str) -> bool:
    if left == right:
        return True
    first, second = _parse_decimals(left), _parse_decimals(right)
    return first is not None and first == second


def _parse_decimals(line: str) -> list[Decimal] | None:
    try:
        numbers = [Decimal(token) for token in line.split()]
    except (InvalidOperation, ValueError):
        return None
    # NaN equals no number, and comparing a signalling NaN would raise.
    return None if any(number.is_nan() for number in numbers) else numbers
