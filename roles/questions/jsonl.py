"""Questions from a JSONL file: our own records, or LiveCodeBench's.

Our own record is `events.values.Question` as JSON. A LiveCodeBench record is known by its key `question_content`; its private
tests are decoded without unpickling (`roles.questions.livecodebench`). It skips nothing: a bad line is an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from events.errors import BadInput
from events.values import Question
from roles.questions.livecodebench import question_of


@dataclass(frozen=True)
class FileQuestions:
    """The questions of one file."""

    name: str
    questions: tuple[Question, ...]


def jsonl(path: Path) -> FileQuestions:
    """Read a file of questions.

    Raises:
        BadInput: unreadable, empty, or a malformed line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Question file {path} cannot be read: {error}; give a UTF-8 JSONL file.") from error
    questions = tuple(_question(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not questions:
        raise BadInput(f"Question file {path} holds no question; give one JSON object a line.")
    return FileQuestions(path.stem, questions)


def _question(path: Path, number: int, line: str) -> Question:
    place = f"{path}, line {number}"
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: not valid JSON ({error}); mend or remove the line.") from error
    if not isinstance(record, dict):
        raise BadInput(f"{place}: a question is a JSON object, this is a {type(record).__name__}; mend or remove the line.")
    if "\\ud" in line.lower() and any("\ud800" <= c <= "\udfff" for c in json.dumps(record, ensure_ascii=False)):
        raise BadInput(f"{place}: half of a surrogate pair, which is no text; mend or remove the line.")
    try:
        return question_of(record) if "question_content" in record else Question.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise BadInput(f"{place}, field {field}: {first['msg']}; mend or remove the line.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{place}: {error}; mend or remove the line.") from error
