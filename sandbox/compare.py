"""Whether what came out of a program is what was expected, decided on the host over parsed literals.

Law: total on hostile text. Whatever `got` holds, the answer is a bool; text that is no literal is not the same as
anything. It evaluates nothing and knows nothing of verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Literal

from sandbox.literal import NotLiteral, read

RELATIVE = 1e-9
"""Floats are the same within this relative tolerance; zero is the same as zero only."""
LONGEST = 16 << 20
"""Characters of text that are looked at; anything longer is not the same."""


def same(expected: str, got: str, mode: Literal["function", "stdin"] = "function") -> bool:
    """Whether `got` is the expected result.

    Mode `function`, both are Python literals and compare as values: `1 == 1.0` and `1 == 1+0j`, but `True != 1`; floats
    within `RELATIVE`; `nan` is the same as `nan`; a tuple is not a list, a frozenset not a set, bytes not a str; sets
    and dicts have no order, and their elements and keys compare exactly, without tolerance.

    Mode `stdin`, as LiveCodeBench does: strip the whole text, split it into lines, strip each; as many lines, and each
    line equal, or equal token by token as decimal numbers.
    """
    if max(len(expected), len(got)) > LONGEST:
        return False
    if mode == "stdin":
        return _same_text(expected, got)
    try:
        return _same_value(read(expected), read(got))
    except (NotLiteral, OverflowError):
        return False


def equal(expected: str, got: str) -> bool:
    """Whether `got` is the expected result as Python's `==` has it, where a tuple at the top is a list.

    So it is for LiveCodeBench: `3.0 == 3` and `True == 1`, no tolerance for floats, and a tuple inside is no list.
    """
    if max(len(expected), len(got)) > LONGEST:
        return False
    try:
        one, two = (list(value) if isinstance(value, tuple) else value for value in (read(expected), read(got)))
        return bool(one == two)
    except NotLiteral:
        return False


def _same_value(one: object, two: object) -> bool:
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, (int, float, complex)) and isinstance(two, (int, float, complex)):
        return _same_number(one, two)
    if type(one) is not type(two):
        return False
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(_same_value, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        values = {_exact(key): value for key, value in two.items()}
        keys = [_exact(key) for key in one]
        return len(one) == len(two) and all(
            key in values and _same_value(value, values[key]) for key, value in zip(keys, one.values(), strict=True)
        )
    if isinstance(one, (set, frozenset)) and isinstance(two, (set, frozenset)):
        return _exacts(one) == _exacts(two)
    return one == two


def _same_number(one: complex, two: complex) -> bool:
    if isinstance(one, complex) or isinstance(two, complex):
        first, second = complex(one), complex(two)
        return _same_number(first.real, second.real) and _same_number(first.imag, second.imag)
    if isinstance(one, int) and isinstance(two, int):
        return one == two
    return one == two or (math.isnan(one) and math.isnan(two)) or math.isclose(one, two, rel_tol=RELATIVE)


def _exact(value: object) -> object:
    """A hashable stand-in under which `True` and `1` differ, at any depth, and `nan` equals `nan`."""
    if isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
        return type(value).__name__, str(value)
    if isinstance(value, tuple):
        return "tuple", tuple(map(_exact, value))
    return ("frozenset", _exacts(value)) if isinstance(value, frozenset) else value


def _exacts(values: Iterable[object]) -> frozenset[object]:
    return frozenset(map(_exact, values))


def _same_text(expected: str, got: str) -> bool:
    one, two = ([line.strip() for line in text.strip().split("\n")] for text in (expected, got))
    return len(one) == len(two) and all(map(_same_line, one, two))


def _same_line(one: str, two: str) -> bool:
    if one == two:
        return True
    first, second = _decimals(one), _decimals(two)
    return first is not None and first == second


def _decimals(line: str) -> list[Decimal] | None:
    try:
        numbers = [Decimal(token) for token in line.split()]
    except (InvalidOperation, ValueError):
        return None
    return None if any(number.is_nan() for number in numbers) else numbers
