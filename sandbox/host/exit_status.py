"""How a child ended, and what that says about the inputs that it was asked for.

Law: nothing that a child sent is trusted to be of any shape. Every finding but `ok` has a reason in words. This is done on the
host: the server in the container reads no answer. It ends nobody and judges no answer's value.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from dataclasses import dataclass

from sandbox.guest.child import InputReply
from sandbox.runner import Limits

CHILD_STATUSES = ("runtime_error", "syntax_error", "memory_limit", "output_limit", "unprintable", "exited")
"""What a child may say went wrong with an input; the rest is the server's to find."""
TAMPERED: InputReply = ("tampered", "", "sent what is no answer")
TOO_LONG: InputReply = ("output_limit", "", "result is too long")
EXIT_CODE_UNFLUSHED = 120
"""Exit code of a CPython whose program came to its end, but whose standard output could not be flushed then."""
CAUSES: dict[str, InputReply] = {
    "time_limit": ("time_limit", "", "wall-clock time"),
    "output_limit": ("output_limit", "", "more output than allowed"),
    "not_reached": ("time_limit", "", "not reached: earlier inputs used up the job's time"),
    "unread": ("time_limit", "", "not begun: reading the inputs took too long"),
}


@dataclass
class ChildExit:
    """How a child ended."""

    answers: bytes = b""
    """What came through its private pipe."""
    output: bytes = b""
    """What it printed, where that is captured."""
    cause: str = ""
    """Why the server ended it, or did not begin it: `tampered` or one of `CAUSES`; empty if it ended by itself."""
    status: int = 0
    """Wait status of the child."""
    out_of_cpu: bool = False
    """Whether it used all the CPU time that it had."""
    out_of_memory: bool = False
    """Whether the kernel killed a process of it for want of memory."""


def function_replies(end: ChildExit, count: int, longest: int) -> list[InputReply]:
    """What is said of a child that was to answer for `count` inputs: as many as it answered for, then why not for the rest.

    A value may have `longest` bytes. The child keeps to that by itself, unless a program has taken over what it sends.
    """
    answers = parse_replies(end, count, longest)
    if answers is None:
        return [TAMPERED] * count
    return answers + [exit_reply(end)] * (count - len(answers))


def parse_replies(end: ChildExit, count: int, longest: int = Limits().output_kb << 10) -> list[InputReply] | None:
    """The answers of a child, which may be hostile; None if it sent anything but whole answers, or too many.

    An answer may be cut off only where the child was killed while it wrote.
    """
    if end.cause == "tampered":
        return None
    answers: list[InputReply] = []
    rest = memoryview(end.answers)
    while rest:
        size = struct.unpack_from("!I", rest)[0] if len(rest) >= 4 else 0
        if len(rest) < 4 + max(1, size):
            return answers if end.cause or os.WIFSIGNALED(end.status) else None
        # JSON doubles every backslash and quote at worst. Whatever is longer is not parsed.
        answer = _parse_reply(bytes(rest[4 : 4 + size]), longest) if size <= 2 * longest + 4096 else TOO_LONG
        if answer is None or len(answers) == count:
            return None
        answers.append(answer)
        rest = rest[4 + size :]
    return answers


def _parse_reply(body: bytes, longest: int) -> InputReply | None:
    """One answer, None if it is none: a value or a reason, never both, and no status that is not the child's to say."""
    try:
        status, value, detail = json.loads(body)
        # Halves of surrogate pairs are no text.
        "".join((status, detail)).encode()
        long = len(value.encode()) > longest
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if long and status == "ok" and not detail:
        return TOO_LONG
    right = not detail if status == "ok" else detail and not value and status in CHILD_STATUSES
    return (status, value, detail[:200]) if right else None


def stdout_reply(end: ChildExit) -> InputReply:
    """What is said of a program that was to print: one that ends well need not answer."""
    answers = parse_replies(end, 1)
    if answers is None:
        return TAMPERED
    if end.cause == "" and answers and answers[0][0] != "ok":
        return answers[0]
    if end.cause == "" and (end.status == 0 or (answers and end.status == EXIT_CODE_UNFLUSHED << 8)):
        return "ok", end.output.decode("utf-8", "replace"), ""
    return exit_reply(end)


def exit_reply(end: ChildExit) -> InputReply:
    """What is said of inputs that a child never answered for."""
    if end.cause:
        return CAUSES[end.cause]
    if not os.WIFSIGNALED(end.status):
        return "exited", "", f"exit code {os.waitstatus_to_exitcode(end.status)} before an answer"
    number = os.WTERMSIG(end.status)
    if number == signal.SIGSYS:
        return "forbidden", "", "killed for a system call"
    if number == signal.SIGXCPU or (number == signal.SIGKILL and end.out_of_cpu):
        return "time_limit", "", "CPU time"
    if number == signal.SIGKILL and end.out_of_memory:
        return "memory_limit", "", "killed, the container was out of memory"
    return "exited", "", f"killed by signal {number}: {signal.strsignal(number)}"
