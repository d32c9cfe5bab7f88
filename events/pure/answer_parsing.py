"""Parsing of completions: from text to a program, a literal or a teacher's proposal.

Guarantees: for any text, hostile text included, the result is a value or `Malformed` with a reason; nothing raises and nothing
is executed.
Not responsible for: judging. A program that parses here may still be nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from events.pure.literal import NotLiteral, outline, outline_arguments, without_comments

INPUTS: Final = 5
"""Inputs of a proposal: 2 public and 3 private pairs in the paper."""
_MAX_PROGRAM_LENGTH: Final = 16_000
_MOST_INPUTS: Final = 2
"""So many times the inputs that were asked for are read; further ones are left out."""
_FENCE: Final = re.compile(r"(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})(?P<info>.*)")
_INDENTED: Final = 4
"""A fence that is indented by so many columns more than the opening one is text of the block."""
# Escapes are a piece of their own, so that no text makes the search for a string's end begin anew at each of its quotes.
_CALL_PIECE: Final = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|\\.|[][(){}]""")
_OPENING: Final = re.compile(r"(?:>>> )?(?:assert )?(?:f\(|[\[({])")
_WORD: Final = re.compile(r"[\s{.]*([A-Za-z0-9_+#-]+)")
_ARGUMENTS: Final = "input is not a list of Python literals between commas"
_PYTHON: Final = ("py", "python3", "py3")
_ANSWER: Final = re.compile(r"(?:^|</think>)[ \t]*<answer>", re.MULTILINE)
_UNPRINTABLE: Final = re.compile(r"[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Malformed:
    """The text holds no answer of the asked form."""

    reason: str
    """Short, and free of the model's own text."""


@dataclass(frozen=True)
class Proposal:
    """A teacher's proposal, not yet validated."""

    program: str
    message: str
    """The statement for the student."""
    inputs: tuple[str, ...]
    """Argument literals, one text a call; at least as many as were asked for."""


def fenced_block(text: str, language: str, *, lines_of_cut: bool = False) -> str | Malformed:
    """Content of the last fenced block of a language in the answer.

    Fences are CommonMark's: three or more backticks or tildes, closed by as many or more of the same; shorter fences, and those
    indented by more than three columns, are text of the block. A block may be indented as a whole. A block that is never closed
    was truncated, and is no answer; with `lines_of_cut` its whole lines are. A line that begins with `</think>` ends a thought,
    and with it what the thought has left open.
    """
    content: Malformed | str = Malformed(f"no {language} block")
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in answer_section(text).replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        fence = _FENCE.match(line)
        if opened is None:
            if fence is not None and not (fence["mark"][0] == "`" and "`" in fence["info"]):
                opened, lines = fence, []
        elif line.lstrip().startswith("</think>"):
            opened = None
        elif fence is not None and _closes(opened, fence):
            if _language(opened["info"]) == language:
                content = "\n".join(lines)
            opened = None
        else:
            lines.append(_outdented(line, len(opened["indent"])))
    if opened is not None and _language(opened["info"]) == language:
        if not lines_of_cut:
            return Malformed(f"the {language} block is not closed")
        content, opened = "\n".join(lines[:-1]), None
    if opened is not None and isinstance(content, Malformed):
        return Malformed(f"{content.reason}, and another is not closed")
    return content if isinstance(content, Malformed) else _check_content(content, language)


def answer_section(text: str) -> str:
    """The part between `<answer>` and `</answer>` after the thought; the whole text where there is no such part.

    `<answer>` begins a line or follows `</think>`. Without `</answer>` the part goes on to the end.
    """
    opening = _ANSWER.search(text, max(text.find("</think>"), 0))
    if opening is None:
        return text
    section = text[opening.end() :]
    end = section.rfind("</answer>")
    return section if end < 0 else section[:end]


def _closes(opened: re.Match[str], fence: re.Match[str]) -> bool:
    """Whether a fence ends the block that another one opened."""
    beyond = len(fence["indent"].expandtabs(4)) - len(opened["indent"].expandtabs(4))
    return beyond < _INDENTED and fence["mark"].startswith(opened["mark"]) and not fence["info"].strip(" \t")


def _language(info: str) -> str:
    """The language of an opening fence: its first word, whatever attributes follow."""
    word = _WORD.match(info)
    language = word[1].lower() if word else ""
    return "python" if language in _PYTHON else language


def _outdented(line: str, indent: int) -> str:
    """The line without as much of its block's indentation as it has."""
    return line[:indent].lstrip(" \t") + line[indent:]


def _check_content(content: str, language: str) -> str | Malformed:
    if not content.strip():
        return Malformed(f"the {language} block is empty")
    if _UNPRINTABLE.search(content):
        return Malformed(f"unprintable character in the {language} block")
    return content


def parse_program(text: str) -> str | Malformed:
    """The answer of an induction task: a program."""
    program = fenced_block(text, "python")
    if isinstance(program, str) and len(program) > _MAX_PROGRAM_LENGTH:
        return Malformed("program too long")
    return program


def parse_output(text: str) -> str | Malformed:
    """The answer of a deduction task: one Python literal."""
    answer = fenced_block(text, "output")
    return answer if isinstance(answer, Malformed) else _literals(outline, answer, "output is not a Python literal")


def parse_input(text: str) -> str | Malformed:
    """The answer of an abduction task: arguments as Python literals, separated by commas."""
    answer = fenced_block(text, "input")
    return answer if isinstance(answer, Malformed) else _literals(outline_arguments, answer, _ARGUMENTS)


def parse_proposal(text: str, count: int = INPUTS) -> Proposal | Malformed:
    """A teacher's answer: a python block, a message block and an input block of at least `count` inputs.

    An input is a line with the arguments of a call, or with the call, `f(...)` or `assert f(...)`, whatever follows it; it goes
    on for as many lines as its brackets are open. Lines that are neither do not count, nor does the last line of an input block
    that is not closed.
    """
    parts = (parse_program(text), fenced_block(text, "message"), fenced_block(text, "input", lines_of_cut=True))
    for part in parts:
        if isinstance(part, Malformed):
            return part
    program, message, inputs_block = map(str, parts)
    read = [_arguments(line) for line in _input_lines(inputs_block)]
    inputs = [arguments for arguments in read if isinstance(arguments, str)]
    if len(inputs) < count:
        wrong = next((line for line in read if isinstance(line, Malformed)), None)
        return wrong or Malformed(f"{len(inputs)} inputs instead of {count}")
    if len(message) > _MAX_PROGRAM_LENGTH:
        return Malformed("message too long")
    return Proposal(program, message.strip(), tuple(inputs[: count * _MOST_INPUTS]))


def _input_lines(block: str) -> Iterator[str]:
    """The lines of an input block without blank ones and comments; those between the brackets of one input are one line."""
    held: list[str] = []
    depth = 0
    for line in filter(None, map(str.strip, block.split("\n"))):
        if line.startswith("#"):
            continue
        if not held and not _OPENING.match(line):
            yield line
            continue
        held.append(line)
        depth += sum(map(_nesting, _CALL_PIECE.findall(line)))
        if depth <= 0:
            yield " ".join(without_comments(part).strip() for part in held) if len(held) > 1 else line
            held, depth = [], 0
    # Brackets that are never closed hold nothing together.
    yield from held


def _nesting(piece: str) -> int:
    return (piece in "([{") - (piece in ")]}")


def _arguments(line: str) -> str | Malformed:
    """The arguments in a line of an input block."""
    line = line.removeprefix(">>> ").removeprefix("assert ")
    depth = 0
    for piece in _CALL_PIECE.finditer(line) if line.startswith("f(") else ():
        depth += _nesting(piece[0])
        if depth == 0:
            # A call may end with a comma.
            line = line[2 : piece.start()].rstrip().removesuffix(",")
            break
    return _literals(outline_arguments, line, _ARGUMENTS)


def _literals(read: Callable[[str], object], text: str, wrong: str) -> str | Malformed:
    """The text without comments, if it consists of literals."""
    try:
        read(text)
    except NotLiteral as error:
        return Malformed(f"{wrong}: {error}")
    return without_comments(text).strip()
