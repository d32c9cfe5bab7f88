"""What an assertion of a benchmark states, read off its syntax: these arguments give this value.

Law: nothing is executed; a statement that says anything else, or computes anything, is no pair. Such pairs are worth finding,
because their expected values stay outside the sandbox.
"""

from __future__ import annotations

import ast

from events.facts.values import IOPair
from events.pure.literal import NotLiteral, TooLarge, write

LONGEST = 32_000
"""Characters of a value; what is longer may not fit what a program may return."""


def parse_assertion(statement: ast.stmt, name: str) -> IOPair | None:
    """The pair that `assert name(literal, ...) == literal` states; None where it is anything else."""
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
    """Arguments and value as texts; None where one of them has none, or too long a one.

    Nor where Python's `==` is kinder than `sandbox.compare`: to 1 for True, and to a Counter or defaultdict for a dict.
    """
    if _kinder(expected):
        return None
    try:
        given = ", ".join(write(argument, LONGEST) for argument in arguments)
        return IOPair(input=given, output=write(expected, LONGEST))
    except (NotLiteral, TooLarge):
        return None


def _kinder(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_kinder, value))
    return isinstance(value, (bool, dict, set))
