"""Loads the question set that a setting names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from roles.questions.named_sets import parse_spec
from roles.questions.question_set import QuestionList, QuestionSet, Split
from roles.questions.records import QuestionRecord, read_question_records

POCKET: Final = Path(__file__).parents[1] / "pocket" / "questions"


def load_questions(spec: str, split: Split) -> QuestionSet:
    """The question set named by a setting: `pocket`, `NAME[:FILE][?key=value&...]`, or a JSONL file; see docs/questions.md.

    Args:
        spec: the setting.
        split: what it is for. It chooses among the pocket world's sets, and among MBPP's splits where the setting does not.

    Raises:
        BadInput: no such set, no question in it, or a record is wrong.
    """
    if spec == "pocket":
        return _pocket(split)
    found: list[QuestionRecord] = []
    left_out: dict[str, str] = {}
    asked = parse_spec(spec, split)
    for item in read_question_records(asked):
        if isinstance(item, BadInput):
            raise item
        if isinstance(item, QuestionRecord):
            found.append(item)
        else:
            left_out[item.label.name or item.place] = item.reason
    if not found:
        raise BadInput(f"Question set {spec} holds no question; check the file, and what the setting leaves out.")
    rules = {entry.question.id: entry.rules for entry in found if entry.rules != "own"}
    names = {entry.question.id: entry.label.name or entry.place for entry in found}
    return QuestionList(asked.label, tuple(entry.question for entry in found), left_out, rules, names)


@cache
def _pocket(split: Split) -> QuestionSet:
    """The shipped questions of one split."""
    return QuestionList(f"pocket-{split}", load_questions(str(POCKET / f"{split}.jsonl"), split).questions)
