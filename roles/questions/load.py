"""Loads the question set that a setting names."""

from __future__ import annotations

from functools import cache

from events.facts.errors import BadInput
from roles.questions.named_sets import parse_spec
from roles.questions.pocket_folders import FIRST_POCKET, POCKET_FOLDERS
from roles.questions.question_set import QuestionList, QuestionSet, Split
from roles.questions.records import QuestionRecord, read_question_records


def load_questions(spec: str, split: Split) -> QuestionSet:
    """The question set named by a setting: `pocket`, `pocket2`, `NAME[:FILE][?key=value&...]`, or a JSONL file.

    See docs/questions.md. `split`, its use, chooses among the pocket world's files, and among MBPP's splits unless the
    setting does.

    Raises:
        BadInput: no such set, no question in it, or a record is wrong.
    """
    if spec in POCKET_FOLDERS:
        return _pocket(spec, split)
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
def _pocket(name: str, split: Split) -> QuestionSet:
    """The questions of a generation; those that it lacks are the first one's."""
    own, first = (POCKET_FOLDERS[each] / "questions" / f"{split}.jsonl" for each in (name, FIRST_POCKET))
    file = own if own.exists() else first
    return QuestionList(f"{name}-{split}", load_questions(str(file), split).questions)
