"""Reads `assert f(literal, ...) == literal` off its syntax as a test case; nothing is executed.

Such test cases are worth finding, since their expected values stay outside the sandbox.
"""

from __future__ import annotations

import ast

from events.facts.values import IOPair
from events.pure.literal import NotLiteral, TooLarge, write

LONGEST = 32_000
"""Characters of a value; a longer one may exceed what a program may return."""


def parse_assertion(statement: ast.stmt, name: str) -> IOPair | None:
    """The test case that `assert name(literal, ...) == literal` states; None for any other statement."""
    match statement:
        case ast.Assert(
            test=ast.Compare(
                left=ast.Call(func=ast.Name(id=called), args=arguments, keywords=[]), ops=[ast.Eq()], comparators=[expected]
            )
        ) if called == name:
            try:
                return literal_pair([ast.literal_eval(argument) for argument in arguments], ast.literal_eval(expected))
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                return None
    return None


def literal_pair(arguments: list[object], expected: object) -> IOPair | None:
    """Arguments and value as a test case of texts; None if one of them is no literal or too long.

    None too if Python's `==` accepts more than `sandbox.compare` does: 1 for True, a Counter or defaultdict for a dict.
    """
    if _equals_other_types(expected):
        return None
    try:
        inputs = ", ".join(write(argument, LONGEST) for argument in arguments)
        return IOPair(input=inputs, output=write(expected, LONGEST))
    except (NotLiteral, TooLarge):
        return None


def _equals_other_types(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_equals_other_types, value))
    return isinstance(value, (bool, dict, set))
