"""Questions of one's own: `events.facts.values.Question` as JSON, checked field by field. Nothing is executed."""

from __future__ import annotations

import keyword
import re
from typing import get_args

from events.facts.values import IOPair, JudgingRules, Question
from events.pure.literal import NotLiteral, outline
from roles.judging.syntax_tree import parse_source
from roles.questions.evalplus import MAX_TEST_CHARS
from roles.questions.fields import FieldError, Record
from sandbox.compare import canonical_arguments

ENTRY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)?")


def question_of(record: Record) -> Question:
    """A record as a question; ValidationError if it is not of the schema, FieldError if it is and could not be judged."""
    if "question_content" in record.values:
        raise FieldError("question_content", "this is a record of LiveCodeBench, which is named livecodebench:FILE")
    question = Question.model_validate({field: value for field, value in record.values.items() if field != "rules"})
    if not question.statement.strip():
        raise FieldError("statement", "blank; say what is asked")
    if not ENTRY.fullmatch(question.entry):
        raise FieldError("entry", "expected the name of a function such as f, or Solution.method")
    for name in filter(keyword.iskeyword, question.entry.split(".")):
        raise FieldError("entry", f"{name} is a word of Python itself, which nothing can be called")
    for field in ("program", "context"):
        tree = parse_source(getattr(question, field) or "", MAX_TEST_CHARS)
        if tree is None or (question.program is not None and field == "program" and not tree.body):
            raise FieldError(field, "no Python program")
    for part in ("public", "private"):
        for place, pair in enumerate(getattr(question, part)):
            _judgeable(question.mode, pair, f"{part}.{place}")
    shown = {_value(question.mode, pair.input) for pair in question.public}
    # A benchmark's questions, which the goalpost filter writes with their rules, are as they are.
    if rules_of(record) == "own" and shown.issuperset(_value(question.mode, pair.input) for pair in question.private):
        raise FieldError(
            "private", "every input is among the public ones, so nothing is hidden; add another or leave one out of public"
        )
    return question


def _value(mode: str, text: str) -> str:
    """A text that is equal for equal inputs."""
    return canonical_arguments(text) if mode == "function" else text


def rules_of(record: Record) -> JudgingRules:
    """The rules that a record names, `own` where it names none; FieldError if there are no such rules."""
    named = record.text("rules", "own")
    for rules in get_args(JudgingRules):
        if rules == named:
            return rules  # type: ignore[no-any-return]  # get_args is untyped
    raise FieldError("rules", f"expected one of {', '.join(get_args(JudgingRules))}")


def _judgeable(mode: str, pair: IOPair, field: str) -> None:
    if mode == "checks":
        if parse_source(pair.input, MAX_TEST_CHARS) is None:
            raise FieldError(f"{field}.input", "no Python code, which a check is")
        if pair.output:
            raise FieldError(f"{field}.output", "a check has none; leave it empty")
    if mode != "function":
        return
    try:
        canonical_arguments(pair.input)
    except NotLiteral as error:
        raise FieldError(f"{field}.input", f"expected Python literals, comma separated ({error})") from error
    try:
        outline(pair.output)
    except NotLiteral as error:
        raise FieldError(f"{field}.output", f"expected one Python literal ({error})") from error
