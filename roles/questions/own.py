"""Questions of one's own: `events.facts.values.Question` as JSON, looked at closely.

What could not be asked or judged later is refused now, by field. It runs nothing.
"""

from __future__ import annotations

import keyword
import re
from typing import get_args

from events.facts.values import Pair, Question, Rules
from events.pure.literal import NotLiteral, outline
from roles.judging.safety import parse
from roles.questions.evalplus import LONGEST
from roles.questions.fields import Record, Wrong
from sandbox.compare import canonical_arguments

ENTRY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)?")


def question_of(record: Record) -> Question:
    """A record as a question.

    Raises:
        ValidationError: it is not of the schema.
        Wrong: it is, and could not be judged.
    """
    if "question_content" in record.values:
        raise Wrong("question_content", "this is a record of LiveCodeBench, which is named livecodebench:FILE")
    question = Question.model_validate({field: value for field, value in record.values.items() if field != "rules"})
    if not question.statement.strip():
        raise Wrong("statement", "blank; say what is asked")
    if not ENTRY.fullmatch(question.entry):
        raise Wrong("entry", "expected the name of a function such as f, or Solution.method")
    for name in filter(keyword.iskeyword, question.entry.split(".")):
        raise Wrong("entry", f"{name} is a word of Python itself, which nothing can be called")
    for field in ("program", "context"):
        if parse(getattr(question, field) or "", LONGEST) is None:
            raise Wrong(field, "no Python program")
    for part in ("public", "private"):
        for place, pair in enumerate(getattr(question, part)):
            _judgeable(question.mode, pair, f"{part}.{place}")
    shown = {_value(question.mode, pair.input) for pair in question.public}
    # A benchmark's questions, which the goalpost filter writes with their rules, are as they are.
    if rules_of(record) == "own" and shown.issuperset(_value(question.mode, pair.input) for pair in question.private):
        raise Wrong(
            "private", "every input is among the public ones, so nothing is hidden; add another or leave one out of public"
        )
    return question


def _value(mode: str, given: str) -> str:
    """A text that is equal for equal inputs."""
    return canonical_arguments(given) if mode == "function" else given


def rules_of(record: Record) -> Rules:
    """The rules that a record names, `own` where it names none.

    Raises:
        Wrong: there are no such rules.
    """
    named = record.text("rules", "own")
    for rules in get_args(Rules):
        if rules == named:
            return rules  # type: ignore[no-any-return]
    raise Wrong("rules", f"expected one of {', '.join(get_args(Rules))}")


def _judgeable(mode: str, pair: Pair, field: str) -> None:
    if mode == "checks":
        if parse(pair.input, LONGEST) is None:
            raise Wrong(f"{field}.input", "no Python code, which a check is")
        if pair.output:
            raise Wrong(f"{field}.output", "a check has none; leave it empty")
    if mode != "function":
        return
    try:
        canonical_arguments(pair.input)
    except NotLiteral as error:
        raise Wrong(f"{field}.input", f"expected Python literals, comma separated ({error})") from error
    try:
        outline(pair.output)
    except NotLiteral as error:
        raise Wrong(f"{field}.output", f"expected one Python literal ({error})") from error
