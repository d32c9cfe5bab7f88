"""Answer forms: the parts of a completion that are given, so that the model writes only what lies between them.

A small model that is asked for a program, a text and test inputs in three fenced blocks forgets one of them. In a form the
fences are given and cost no gradient, and the model fills the blocks one after the other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from events.facts.values import CompletionPart

AnswerForm = tuple[CompletionPart, ...]
"""The parts of a completion, in order."""
_MARK: Final = re.compile(r"\{\{(\w+)(\.\.\.)?\}\}")


def parse_form(path: Path, text: str, fields: tuple[str, ...]) -> AnswerForm:
    """The form in a file: given text with a mark where the model writes.

    It writes the rest of a line at a mark `{{field}}`, and any lines at `{{field...}}`, until it writes the line that follows.

    Raises:
        BadInput: a mark is missing or unknown, or no line follows it.
    """
    given, *rest = _MARK.split(text)
    names, many, between = rest[::3], rest[1::3], rest[2::3]
    if set(names) != set(fields):
        marks = ", ".join(f"{{{{{field}}}}}" for field in fields)
        raise BadInput(f"Answer form {path} must have each of the marks {marks}, and no others.")
    parts: list[CompletionPart] = []
    for several, following in zip(many, between, strict=True):
        stop = "\n".join(following.split("\n", 2)[:2]) if several else "\n"
        if not following.startswith("\n") or not stop.strip(" ") or (several and not stop.strip()):
            raise BadInput(f"Answer form {path} must have a line end after each mark, and after one with `...` a line.")
        parts.append(CompletionPart(given=given, stop=stop))
        given = following.removeprefix(stop)
    return tuple(parts)
