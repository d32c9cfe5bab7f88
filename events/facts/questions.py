"""Reads questions out of a log."""

from __future__ import annotations

from pydantic import ValidationError

from events.facts.errors import LogCorrupt
from events.facts.log import ReadableLog
from events.facts.values import BlobHash, Question


def read_question(log: ReadableLog, blob: BlobHash) -> Question:
    """The question in a blob.

    Raises:
        LogCorrupt: the blob is missing, or holds no question.
    """
    return parse_question(blob, log.get(blob))


def parse_question(blob: BlobHash, content: bytes) -> Question:
    """The question in the content of a blob; LogCorrupt if it is none."""
    try:
        return Question.model_validate_json(content)
    except ValidationError as error:
        raise LogCorrupt(f"Blob {blob} holds no question; the log is damaged, run verify.") from error


def readable_question(log: ReadableLog, blob: BlobHash | None) -> Question | None:
    """The question in a blob; None where there is no blob, or none that can be read."""
    try:
        return None if blob is None else read_question(log, blob)
    except LogCorrupt:
        return None
