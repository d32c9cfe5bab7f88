"""The contract of a question set, and how one is found by the setting that names it.

Loading executes nothing and validates everything; a bad record is one sentence with file, line and field. A question set
does not know who plays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol

from events.facts.values import JudgingRules, Question, QuestionId

Split = Literal["train", "validation", "test", "goalposts"]
NO_RULES: Final[Mapping[QuestionId, JudgingRules]] = MappingProxyType({})
"""No question has rules of its own."""


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

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why records that were asked for are not among them, by the name or place of the record."""
        ...

    @property
    def rules(self) -> Mapping[QuestionId, JudgingRules]:
        """The rules by which their benchmark judges answers, of those questions that have other rules than `own`."""
        ...

    @property
    def names(self) -> Mapping[QuestionId, str]:
        """What to call a question in words: its name in the benchmark, or its place in a file. Not every set knows any."""
        ...


@dataclass(frozen=True)
class QuestionList:
    """A question set that is in memory."""

    name: str
    questions: tuple[Question, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[QuestionId, JudgingRules] = field(default_factory=dict)
    names: Mapping[QuestionId, str] = field(default_factory=dict)


def save_questions(path: Path, questions: Iterable[Question], rules: Mapping[QuestionId, JudgingRules] = NO_RULES) -> None:
    """Write questions, with their rules, as a JSONL file that `load` reads back; it is there whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("w") as file:
        for question in questions:
            own = {"rules": rules[question.id]} if question.id in rules else {}
            file.write(json.dumps(question.model_dump(mode="json") | own) + "\n")
    new.replace(path)
