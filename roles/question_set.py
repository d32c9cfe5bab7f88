"""The contract of a question set, and how one is found by the setting that names it.

Law: loading executes nothing and validates everything; a bad record is one sentence with file, line and field. A question set
does not know who plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from events.errors import BadInput
from events.values import Question

Split = Literal["train", "validation", "test", "goalposts"]


class QuestionSet(Protocol):
    """Questions, and what their world knows about them. Implementations in `roles/questions/`."""

    @property
    def name(self) -> str:
        """Name for the log."""
        ...

    @property
    def questions(self) -> tuple[Question, ...]:
        """All of them, in a fixed order."""
        ...


@dataclass(frozen=True)
class Questions:
    """A question set that is in memory."""

    name: str
    questions: tuple[Question, ...]


def load(spec: str, split: Split) -> QuestionSet:
    """The question set named by a setting: `pocket`, `NAME[:FILE][?key=value&...]`, or a JSONL file; see docs/questions.md.

    Args:
        spec: the setting.
        split: what it is for. It chooses among the pocket world's sets, and among MBPP's splits where the setting does not.

    Raises:
        BadInput: no such set, no question in it, or a record is wrong.
    """
    if spec == "pocket":
        from roles.questions.pocket import pocket

        return pocket(split)
    from roles.questions.reading import Entry, examined
    from roles.questions.sources import named

    found = []
    asked = named(spec, split)
    for item in examined(asked):
        if isinstance(item, BadInput):
            raise item
        if isinstance(item, Entry):
            found.append(item.question)
    if not found:
        raise BadInput(f"Question set {spec} holds no question; check the file, and what the setting leaves out.")
    return Questions(asked.label, tuple(found))
