"""The rules by which an answer is run on the tests of a question, and by which what comes out is right.

Law: a job is composed here, on the host, and what comes out is compared here. What is around an answer in its job is
`roles.harness`. It runs nothing.
"""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import Literal

from events.values import Outcome, Pair, Question, Rules
from sandbox.compare import equal, same
from sandbox.runner import Job, Run, RunStatus

HARNESS = Path(__file__).with_name("harness.py")
ENTRY = "gasp_entry"
"""What a composed job calls, where that is no secret."""
OUTCOMES: dict[RunStatus, Outcome] = {
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
NOT_PYTHON = ("SyntaxError:", "IndentationError:", "TabError:")
"""How a run tells that an answer inside of a harness did not compile."""


def compose(question: Question, program: str, rules: Rules) -> Job:
    """The job that runs a program on all tests of a question."""
    inputs = tuple(pair.input for pair in question.pairs)
    owner, _, name = question.entry.rpartition(".")
    match question.mode, rules:
        case "checks", _:
            token = f"gasp_{secrets.token_hex(16)}"
            body = f"checks({program!r}, {question.entry!r}, {list(inputs)!r}, {token!r})"
            return _within(f"{token} = {body}", tuple(map(str, range(len(inputs)))), token)
        case "stdin", "livecodebench":
            return _within(f"official_program({program!r})", inputs, mode="stdin")
        case "function", "livecodebench":
            return _within(f"{ENTRY} = official_method({program!r}, {name!r})", inputs)
        case "function", _ if owner == "Solution":
            return _within(f"{ENTRY} = method({program!r}, {name!r})", inputs)
        case "stdin", _:
            return Job(source=program, inputs=inputs, mode="stdin")
        case _:
            return Job(source=program, inputs=inputs, entry=question.entry)


def _within(last: str, inputs: tuple[str, ...], entry: str = ENTRY, mode: Literal["function", "stdin"] = "function") -> Job:
    """A job that ends with what the harness makes of an answer."""
    return Job(source=f"{_harness()}\n{last}\n", inputs=inputs, entry=entry, mode=mode)


@cache
def _harness() -> str:
    # Functions see the builtins that are in force where they are defined: a copy, which no answer changes.
    return f"import builtins\n__builtins__ = dict(vars(builtins))\n{HARNESS.read_text()}"


def found(question: Question, rules: Rules, job: Job, pair: Pair, run: Run) -> Outcome:
    """What a run of a composed job on a pair means."""
    if run.status != "ok":
        wrong = run.status == "runtime_error" and run.detail.startswith(NOT_PYTHON)
        return "syntax_error" if wrong else OUTCOMES[run.status]
    if question.mode == "checks":
        right = run.value == repr(job.entry)
    elif question.mode == "function" and rules == "livecodebench":
        right = equal(pair.output, run.value)
    else:
        right = same(pair.output, run.value, question.mode)
    return "passed" if right else "wrong_answer"
