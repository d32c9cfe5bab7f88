"""Parsing of answers: from a completion's text to a program, a literal or a teacher's proposal.

Law: parsing is total. Whatever a model wrote, hostile text included, the result is a value or `Malformed` with a
reason; nothing raises, nothing is executed. It does not judge: a program that parses here may still be nonsense.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import Final

INPUTS: Final = 5
"""Inputs of a proposal: 2 public and 3 private pairs in the paper."""
_LONGEST_PROGRAM: Final = 16_000
_LONGEST_LITERAL: Final = 4_000
_FENCE: Final = "```"


@dataclass(frozen=True)
class Malformed:
    """The text holds no answer of the asked form."""

    reason: str
    """Short, and free of the model's own text."""


@dataclass(frozen=True)
class Proposal:
    """What the teacher proposed, not yet checked by anybody."""

    program: str
    message: str
    """The statement for the student."""
    inputs: tuple[str, ...]
    """Argument literals, one text for each call."""


def block(text: str, language: str) -> str | Malformed:
    """Content of the last closed block that opens with a line of three backticks and `language`."""
    found: str | None = None
    lines = text.split("\n")
    opened: int | None = None
    inside = False
    for number, line in enumerate(lines):
        mark = line.strip()
        if not mark.startswith(_FENCE):
            continue
        if inside:
            if mark == _FENCE:
                if opened is not None:
                    found = "\n".join(lines[opened:number])
                inside, opened = False, None
        else:
            inside = True
            opened = number + 1 if mark[len(_FENCE) :].strip().lower() == language else None
    if found is None:
        return Malformed(f"no closed {language} block")
    if not found.strip():
        return Malformed(f"empty {language} block")
    if "\0" in found or any("\ud800" <= c <= "\udfff" for c in found):
        return Malformed(f"unprintable character in the {language} block")
    return found


def parse_program(text: str) -> str | Malformed:
    """The answer of an induction task."""
    program = block(text, "python")
    if isinstance(program, str) and len(program) > _LONGEST_PROGRAM:
        return Malformed("program too long")
    return program


def parse_output(text: str) -> str | Malformed:
    """The answer of a deduction task: one Python literal."""
    answer = block(text, "output")
    return answer if isinstance(answer, Malformed) else _literal(answer, "output")


def parse_input(text: str) -> str | Malformed:
    """The answer of an abduction task: arguments as Python literals, separated by commas."""
    answer = block(text, "input")
    return answer if isinstance(answer, Malformed) else _arguments(answer)


def parse_proposal(text: str, count: int = INPUTS) -> Proposal | Malformed:
    """A teacher's answer: a python block, a message block and an input block of exactly `count` lines."""
    program, message, listed = parse_program(text), block(text, "message"), block(text, "input")
    for part in (program, message, listed):
        if isinstance(part, Malformed):
            return part
    assert isinstance(program, str)
    assert isinstance(message, str)
    assert isinstance(listed, str)
    lines = [line for line in listed.split("\n") if line.strip()]
    if len(lines) != count:
        return Malformed(f"{count} inputs were asked for")
    inputs: list[str] = []
    for line in lines:
        arguments = _arguments(line)
        if isinstance(arguments, Malformed):
            return arguments
        inputs.append(arguments)
    if len(message) > _LONGEST_PROGRAM:
        return Malformed("message too long")
    return Proposal(program, message.strip(), tuple(inputs))


def _literal(text: str, what: str) -> str | Malformed:
    text = text.strip()
    if len(text) > _LONGEST_LITERAL:
        return Malformed(f"{what} too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return Malformed(f"{what} is not a Python literal")
    return text


def _arguments(text: str) -> str | Malformed:
    """Arguments are what stands between the brackets of a call, so `f(` them `)` must be one call and nothing more."""
    text = text.strip()
    tuple_text = _literal(f"({text},)", "input")
    if isinstance(tuple_text, Malformed):
        return tuple_text
    # `1), (2` closes the bracket early: the text alone must be literals as well.
    alone = _literal(f"[{text}]", "input")
    return alone if isinstance(alone, Malformed) else text
