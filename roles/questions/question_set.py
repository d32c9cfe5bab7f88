"""The contract of a question set.

Guarantees: loading executes nothing and validates everything; an error is one sentence with file, line and field.
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

Split = Literal["train", "validation", "test", "goalposts", "documents"]
NO_RULES: Final[Mapping[QuestionId, JudgingRules]] = MappingProxyType({})
"""Used where no question has rules of its own."""


class QuestionSet(Protocol):
    """Questions with names and judging rules."""

    @property
    def name(self) -> str:
        """The set's name, as the log records it."""
        ...

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions, in a fixed order."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Reasons why records were left out, by the record's name or place."""
        ...

    @property
    def rules(self) -> Mapping[QuestionId, JudgingRules]:
        """The judging rules of those questions that have other rules than `own`."""
        ...

    @property
    def names(self) -> Mapping[QuestionId, str]:
        """The name of a question in the benchmark, or its place in a file; sets may leave it out."""
        ...


@dataclass(frozen=True)
class QuestionList:
    """A question set in memory."""

    name: str
    questions: tuple[Question, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[QuestionId, JudgingRules] = field(default_factory=dict)
    names: Mapping[QuestionId, str] = field(default_factory=dict)


def save_questions(path: Path, questions: Iterable[Question], rules: Mapping[QuestionId, JudgingRules] = NO_RULES) -> None:
    """Write questions and their rules as a JSONL file that `load_questions` reads; it is replaced atomically."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("w") as file:
        for question in questions:
            own = {"rules": rules[question.id]} if question.id in rules else {}
            file.write(json.dumps(question.model_dump(mode="json") | own) + "\n")
    new.replace(path)
