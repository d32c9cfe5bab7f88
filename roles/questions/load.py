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

    `split`, its use, chooses among the pocket world's files, and among MBPP's splits unless the setting does.

    Raises:
        BadInput: no such set, no question in it, or a record is wrong.
    """
    if spec == "pocket":
        return _pocket(split)
    records: list[QuestionRecord] = []
    left_out: dict[str, str] = {}
    parsed = parse_spec(spec, split)
    for outcome in read_question_records(parsed):
        if isinstance(outcome, BadInput):
            raise outcome
        if isinstance(outcome, QuestionRecord):
            records.append(outcome)
        else:
            left_out[outcome.label.name or outcome.place] = outcome.reason
    if not records:
        raise BadInput(f"Question set {spec} holds no question; check the file, and what the setting leaves out.")
    rules = {record.question.id: record.rules for record in records if record.rules != "own"}
    names = {record.question.id: record.label.name or record.place for record in records}
    return QuestionList(parsed.label, tuple(record.question for record in records), left_out, rules, names)


@cache
def _pocket(split: Split) -> QuestionSet:
    return QuestionList(f"pocket-{split}", load_questions(str(POCKET / f"{split}.jsonl"), split).questions)
