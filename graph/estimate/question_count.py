"""Counts the questions of a set without fetching anything."""

from __future__ import annotations

from functools import cache
from typing import Final

from roles.questions.load import load_questions
from roles.questions.named_sets import parse_spec
from roles.questions.pocket_folders import POCKET_FOLDERS
from roles.questions.question_set import Split

MAX_QUESTION_FILE_BYTES: Final = 2**24
"""Largest question file, in bytes, that is read to count its questions."""


@cache
def question_count(spec: str, split: Split) -> int | None:
    """Questions of a set; None where that shows when the run starts only. BadInput if there is no such set."""
    if spec == "none":
        return 0
    if spec not in POCKET_FOLDERS:
        place = parse_spec(spec, split).place
        if place is None or place.is_dir() or place.stat().st_size > MAX_QUESTION_FILE_BYTES:
            return None
    return len(load_questions(spec, split).questions)
