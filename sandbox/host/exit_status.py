"""Derives the status of each input from how a child process exited and from the bytes that it sent.

Guarantees: nothing that a child sent is trusted to have any shape; every status but `ok` has a detail in words.
This happens on the host: the fork server in the container never parses a reply.
Not responsible for: whether a value is right.
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
"""Failures that a child may report itself; the other statuses follow from how it exited."""
TAMPERED: InputReply = ("tampered", "", "sent a malformed reply")
TOO_LONG: InputReply = ("output_limit", "", "result is too long")
EXIT_CODE_UNFLUSHED = 120
"""Exit code of CPython when the program has ended but its standard output could not be flushed."""
CAUSES: dict[str, InputReply] = {
    "time_limit": ("time_limit", "", "wall-clock time"),
    "output_limit": ("output_limit", "", "more output than allowed"),
    "not_reached": ("time_limit", "", "not reached: earlier inputs used up the job's time"),
    "unread": ("time_limit", "", "not begun: reading the inputs took too long"),
}


@dataclass
class ChildExit:
    """How a child exited, and what it sent until then."""

    answers: bytes = b""
    """Bytes from its private pipe."""
    output: bytes = b""
    """What it printed, where that is captured."""
    cause: str = ""
    """Why the server killed or never started it: `tampered` or a key of `CAUSES`; empty if it exited by itself."""
    status: int = 0
    out_of_cpu: bool = False
    """Whether it used up its CPU time."""
    out_of_memory: bool = False
    """Whether the kernel killed one of its processes because the container was out of memory."""


def function_replies(end: ChildExit, count: int, longest: int) -> list[InputReply]:
    """The replies for `count` inputs: those that the child sent, then for the rest the reason of its exit.

    A value may have `longest` bytes. The child keeps to that by itself, unless the program has taken over its pipe.
    """
    replies = parse_replies(end, count, longest)
    if replies is None:
        return [TAMPERED] * count
    return replies + [exit_reply(end)] * (count - len(replies))


def parse_replies(end: ChildExit, count: int, longest: int = Limits().output_kb << 10) -> list[InputReply] | None:
    """The replies of a child, which may be hostile; None if it sent anything but whole replies, or too many.

    A reply may be cut off only where the child was killed while it wrote.
    """
    if end.cause == "tampered":
        return None
    replies: list[InputReply] = []
    remaining = memoryview(end.answers)
    while remaining:
        size = struct.unpack_from("!I", remaining)[0] if len(remaining) >= 4 else 0
        if len(remaining) < 4 + max(1, size):
            return replies if end.cause or os.WIFSIGNALED(end.status) else None
        # At worst JSON doubles every backslash and quote. Whatever is longer is not parsed.
        reply = _parse_reply(bytes(remaining[4 : 4 + size]), longest) if size <= 2 * longest + 4096 else TOO_LONG
        if reply is None or len(replies) == count:
            return None
        replies.append(reply)
        remaining = remaining[4 + size :]
    return replies


def _parse_reply(body: bytes, longest: int) -> InputReply | None:
    """One reply: a value or a detail, never both, with a status that a child may report; None if it is anything else."""
    try:
        status, value, detail = json.loads(body)
        # Raises on lone surrogates, which no log can store.
        "".join((status, detail)).encode()
        long = len(value.encode()) > longest
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if long and status == "ok" and not detail:
        return TOO_LONG
    valid = not detail if status == "ok" else detail and not value and status in CHILD_STATUSES
    return (status, value, detail[:200]) if valid else None


def stdout_reply(end: ChildExit) -> InputReply:
    """The reply for a program in mode `stdin`; one that exits with code 0 need not have sent any."""
    replies = parse_replies(end, 1)
    if replies is None:
        return TAMPERED
    if end.cause == "" and replies and replies[0][0] != "ok":
        return replies[0]
    if end.cause == "" and (end.status == 0 or (replies and end.status == EXIT_CODE_UNFLUSHED << 8)):
        return "ok", end.output.decode("utf-8", "replace"), ""
    return exit_reply(end)


def exit_reply(end: ChildExit) -> InputReply:
    """The reply for inputs that a child sent none for."""
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
