"""Judging rules: how a program is run on the tests of a question, and which outputs are right.

Jobs are composed and outputs compared here, on the host; `roles.judging.job_source` is the harness inside the job.
"""

from __future__ import annotations

import ast
import secrets
from functools import cache
from pathlib import Path
from typing import Literal

from events.facts.values import IOPair, JudgingRules, Outcome, Question
from events.pure.literal import NotLiteral, outline
from roles.judging.syntax_tree import parse_source
from sandbox.compare import MAX_CHARACTERS, outputs_match, python_equal, python_equal_values
from sandbox.runner import InputRun, Job, RunStatus

HARNESS = Path(__file__).with_name("job_source.py")
HARNESS_ENTRY = "gasp_entry"
"""Name of the entry of a composed job, where it need not be secret."""
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
"""The outcome of a test for each status of its run but `ok`."""
ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE = 1e-6, 1e-7
"""EvalPlus's tolerances for floats."""
SYNTAX_ERROR_PREFIXES = ("SyntaxError:", "IndentationError:", "TabError:")
"""Beginnings of a run's detail when a program inside of the harness does not compile."""


def compose_job(question: Question, program: str, rules: JudgingRules) -> Job:
    """The job that runs a program on all tests of a question."""
    inputs = tuple(pair.input for pair in question.pairs)
    cls, _, name = question.entry.rpartition(".")
    arguments = f"{program!r}, {question.context!r}"
    match question.mode, rules:
        case "checks", _:
            # A check passes if the job returns this secret, so that a program cannot pass by ending the check early.
            token = f"gasp_{secrets.token_hex(16)}"
            body = f"check_runner({arguments}, {question.entry!r}, {list(inputs)!r}, {token!r}, official={rules == 'evalplus'})"
            return _harness_job(f"{token} = {body}", tuple(map(str, range(len(inputs)))), token)
        case "stdin", "livecodebench":
            return _harness_job(f"run_livecodebench_program({arguments})", inputs, mode="stdin")
        case "function", "livecodebench":
            return _harness_job(f"{HARNESS_ENTRY} = livecodebench_method({arguments}, {name!r})", inputs)
        case "function", _ if cls == "Solution":
            return _harness_job(f"{HARNESS_ENTRY} = program_method({arguments}, {name!r})", inputs)
        case "function", "evalplus" if not cls:
            return _harness_job(f"{HARNESS_ENTRY} = evalplus_function({arguments}, {name!r})", inputs)
        case "function", _ if question.context and not cls:
            return _harness_job(f"{HARNESS_ENTRY} = program_function({arguments}, {name!r})", inputs)
        case _:
            return Job(source=with_context(question.context, program), inputs=inputs, entry=question.entry, mode=question.mode)


def with_context(context: str, program: str) -> str:
    """The context and then the program as one source; `from __future__` imports stay first."""
    tree = parse_source(program) if context else None
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"] if tree else []
    lines = program.split("\n")
    cut = future[-1].end_lineno if future else 0
    return "\n".join([*lines[:cut], context, "", *lines[cut:]]) if context else program


def _harness_job(
    last: str, inputs: tuple[str, ...], entry: str = HARNESS_ENTRY, mode: Literal["function", "stdin"] = "function"
) -> Job:
    """A job that consists of the harness and this last statement."""
    return Job(source=f"{_harness_source()}\n{last}\n", inputs=inputs, entry=entry, mode=mode)


@cache
def _harness_source() -> str:
    # Functions see the builtins of the place where they are defined: a copy, which no program changes.
    return f"import builtins\n__builtins__ = dict(vars(builtins))\n{HARNESS.read_text()}"


def outcome_of(question: Question, rules: JudgingRules, job: Job, pair: IOPair, run: InputRun) -> Outcome:
    """The outcome of one test from its run in a composed job."""
    if run.status != "ok":
        is_syntax = run.status == "runtime_error" and run.detail.startswith(SYNTAX_ERROR_PREFIXES)
        return "syntax_error" if is_syntax else OUTCOME_OF_STATUS[run.status]
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
    """Whether `got` equals the expected output by EvalPlus's rule: `==`; floats and lists of floats within a tolerance."""
    if max(len(expected), len(got)) > MAX_CHARACTERS:
        return False
    try:
        left, right = outline(expected), outline(got)
    except NotLiteral:
        return False
    if type(left) is type(right) and _within_tolerance(left, right):
        return True
    return python_equal_values(left, right)


def _within_tolerance(left: object, right: object) -> bool:
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return (
            0 < len(left) == len(right)
            and all(isinstance(item, float) for item in left)
            and all(map(_within_tolerance, left, right))
        )
    if not isinstance(left, float) or not isinstance(right, (int, float)):
        return False
    try:
        return left == right or abs(left - right) <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(left)
    except OverflowError:
        return False
