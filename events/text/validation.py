"""The first problem in a validation error of pydantic, for messages."""

from __future__ import annotations

from pydantic import ValidationError


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The dotted name of the first field that is wrong, empty for the whole, and what is wrong with it."""
    problem = error.errors(include_url=False)[0]
    return ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
