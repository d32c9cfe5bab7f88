"""The rules by which an answer is run on the tests of a question, and by which what comes out is right.

A job is composed here, on the host, and what comes out is compared here. What is around an answer in its job is
`roles.judging.job_source`. It runs nothing.
"""

from __future__ import annotations

import ast
import secrets
from functools import cache
from pathlib import Path
from typing import Literal

from events.facts.values import IOPair, JudgingRules, Outcome, Question
from events.pure.literal import NotLiteral, outline
from roles.judging.safety import parse_source
from sandbox.compare import MAX_CHARACTERS, outputs_match, python_equal, python_equal_values
from sandbox.runner import InputRun, Job, RunStatus

HARNESS = Path(__file__).with_name("job_source.py")
HARNESS_ENTRY = "gasp_entry"
"""What a composed job calls, where that is no secret."""
OUTCOME_OF_STATUS: dict[RunStatus, Outcome] = {
    "runtime_error": "runtime_error",
    "syntax_error": "syntax_error",
    "time_limit": "time_limit",
    "memory_limit": "memory_limit",
    "output_limit": "output_limit",
    "unprintable": "wrong_answer",
    "exited": "runtime_error",
    "forbidden": "forbidden",
    "tampered": "tampered",
}
"""What a failed run means for the verdict."""
ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE = 1e-6, 1e-7
"""What EvalPlus lets floats differ by."""
SYNTAX_ERROR_PREFIXES = ("SyntaxError:", "IndentationError:", "TabError:")
"""How a run tells that an answer inside of a harness did not compile."""


def compose_job(question: Question, program: str, rules: JudgingRules) -> Job:
    """The job that runs a program on all tests of a question."""
    inputs = tuple(pair.input for pair in question.pairs)
    owner, _, name = question.entry.rpartition(".")
    answer = f"{program!r}, {question.context!r}"
    match question.mode, rules:
        case "checks", _:
            token = f"gasp_{secrets.token_hex(16)}"
            body = f"checks({answer}, {question.entry!r}, {list(inputs)!r}, {token!r}, official={rules == 'evalplus'})"
            return _harness_job(f"{token} = {body}", tuple(map(str, range(len(inputs)))), token)
        case "stdin", "livecodebench":
            return _harness_job(f"official_program({answer})", inputs, mode="stdin")
        case "function", "livecodebench":
            return _harness_job(f"{HARNESS_ENTRY} = official_method({answer}, {name!r})", inputs)
        case "function", _ if owner == "Solution":
            return _harness_job(f"{HARNESS_ENTRY} = method({answer}, {name!r})", inputs)
        case "function", "evalplus" if not owner:
            return _harness_job(f"{HARNESS_ENTRY} = evalplus_function({answer}, {name!r})", inputs)
        case "function", _ if question.context and not owner:
            return _harness_job(f"{HARNESS_ENTRY} = function({answer}, {name!r})", inputs)
        case _:
            return Job(source=with_context(question.context, program), inputs=inputs, entry=question.entry, mode=question.mode)


def with_context(context: str, program: str) -> str:
    """A program behind its context, as one text; imports from the future stay before both."""
    tree = parse_source(program) if context else None
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"] if tree else []
    lines = program.split("\n")
    cut = future[-1].end_lineno if future else 0
    return "\n".join([*lines[:cut], context, "", *lines[cut:]]) if context else program


def _harness_job(
    last: str, inputs: tuple[str, ...], entry: str = HARNESS_ENTRY, mode: Literal["function", "stdin"] = "function"
) -> Job:
    """A job that ends with what the harness makes of an answer."""
    return Job(source=f"{_harness_source()}\n{last}\n", inputs=inputs, entry=entry, mode=mode)


@cache
def _harness_source() -> str:
    # Functions see the builtins that are in force where they are defined: a copy, which no answer changes.
    return f"import builtins\n__builtins__ = dict(vars(builtins))\n{HARNESS.read_text()}"


def outcome_of(question: Question, rules: JudgingRules, job: Job, pair: IOPair, run: InputRun) -> Outcome:
    """What a run of a composed job on a pair means."""
    if run.status != "ok":
        wrong = run.status == "runtime_error" and run.detail.startswith(SYNTAX_ERROR_PREFIXES)
        return "syntax_error" if wrong else OUTCOME_OF_STATUS[run.status]
    if question.mode == "checks":
        right = run.value == repr(job.entry)
    elif question.mode == "function" and rules == "livecodebench":
        right = python_equal(pair.output, run.value)
    elif question.mode == "function" and rules == "evalplus":
        right = evalplus_equal(pair.output, run.value)
    else:
        right = outputs_match(pair.output, run.value, question.mode)
    return "passed" if right else "wrong_answer"


def evalplus_equal(expected: str, got: str) -> bool:
    """Whether `got` is the expected result as EvalPlus has it: by `==`; floats and lists of floats within a tolerance."""
    if max(len(expected), len(got)) > MAX_CHARACTERS:
        return False
    try:
        one, two = outline(expected), outline(got)
    except NotLiteral:
        return False
    if type(one) is type(two) and _within_tolerance(one, two):
        return True
    return python_equal_values(one, two)


def _within_tolerance(one: object, two: object) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return (
            0 < len(one) == len(two) and all(isinstance(item, float) for item in one) and all(map(_within_tolerance, one, two))
        )
    if not isinstance(one, float) or not isinstance(two, (int, float)):
        return False
    try:
        return one == two or abs(one - two) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(one)
    except OverflowError:
        return False
