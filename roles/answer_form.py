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


def parse_form(path: Path, text: str, fields: tuple[str, ...], filled: tuple[str, ...] = ()) -> AnswerForm:
    """The form in a file: given text with a mark where the model writes.

    Marks `{{field}}` of `filled` stay in the given text, for the prompt's rendering to fill.

    At a mark `{{field}}` the model writes until the text that follows the mark on its line, or until the end of the line; at
    `{{field...}}` it writes several lines, until the line that follows.

    Raises:
        BadInput: a mark is missing or unknown, or nothing follows it.
    """
    given, *rest = _MARK.split(text)
    names, several, following = rest[::3], rest[1::3], rest[2::3]
    while names and names[0] in filled and not several[0]:
        given += f"{{{{{names.pop(0)}}}}}{following.pop(0)}"
        several.pop(0)
    if set(names) != set(fields):
        marks = ", ".join(f"{{{{{field}}}}}" for field in fields)
        raise BadInput(f"Answer form {path} must have each of the marks {marks}, and no others.")
    parts: list[CompletionPart] = []
    for many, after in zip(several, following, strict=True):
        line, end, rest_of_text = after.partition("\n")
        stop = f"\n{rest_of_text.partition(chr(10))[0]}" if many else line or end
        if (many and (line or stop == "\n")) or not stop:
            raise BadInput(f"Answer form {path} must have a text after each mark, which ends what the model writes.")
        parts.append(CompletionPart(given=given, stops=(stop,) if many else tuple(dict.fromkeys((stop, "\n")))))
        given = after.removeprefix(stop)
    return tuple(parts)
