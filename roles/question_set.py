"""The contract of a question set, and how one is found by name.

Law: loading executes nothing and validates everything; a bad record is one sentence with file, line and field. A question set
does not know who plays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from events.errors import BadInput
from events.values import Question

Split = Literal["train", "test", "goalposts"]


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


def load(spec: str, split: Split) -> QuestionSet:
    """The question set named by a setting: `pocket`, or a JSONL file.

    Raises:
        BadInput: no such set, or a record is wrong.
    """
    if spec == "pocket":
        from roles.questions.pocket import pocket

        return pocket(split)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise BadInput(f"There is no question set {spec!r}: it is neither 'pocket' nor a JSONL file; check the path.")
    from roles.questions.jsonl import jsonl

    return jsonl(path)
