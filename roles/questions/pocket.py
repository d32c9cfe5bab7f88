"""The pocket world's shipped questions, by split."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from roles.question_set import Split
from roles.questions.jsonl import FileQuestions, jsonl

FOLDER = Path(__file__).parent.parent / "pocket" / "questions"


@cache
def pocket(split: Split) -> FileQuestions:
    """The shipped questions of one split."""
    return FileQuestions(f"pocket-{split}", jsonl(FOLDER / f"{split}.jsonl").questions)
