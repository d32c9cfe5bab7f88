"""The pocket world's shipped questions, by split."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from roles.question_set import Questions, QuestionSet, Split, load

FOLDER = Path(__file__).parent.parent / "pocket" / "questions"


@cache
def pocket(split: Split) -> QuestionSet:
    """The shipped questions of one split."""
    return Questions(f"pocket-{split}", load(str(FOLDER / f"{split}.jsonl"), split).questions)
