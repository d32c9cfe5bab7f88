"""What a child of the fork server does: drop every right, then run one untrusted program and say what came out.

Law: rights and the server's descriptors go before the program's first byte is compiled. After that the program owns this
process and may do what it likes with it, so nothing here is trusted by anyone; the server looks only at well-formed replies and
the wait status. Stdlib only: this file lies in the container. It does not enforce time and does not judge.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import marshal
import os
import resource
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from events.pure import literal
from sandbox.guest import exit_output

SCRATCH = "/tmp"  # noqa: S108  # the container's own tmpfs; nothing is deleted by this path
"""The only writable place; it must be a mount of its own."""
NOBODY_GID = 65534
"""Gid of the programs."""
UID_RANGE = (1 << 30, 1 << 31)
"""Uids that no person or service has; a container draws one of them for its programs."""
SMALL_UID_RANGE = (30_000, 65_000)
"""The same where the engine gives containers only the usual 65 536."""
MAX_SERVER_FDS = 4096
"""Descriptors that a server may have."""
EXEC_CALLS = {"x86_64": (59, 322), "aarch64": (221, 281)}
"""Numbers of execve and execveat."""
START_RECORD = struct.Struct("=dd")
"""First words of a child's answers, once rights are dropped, limits set and inputs read: when the program began (monotonic
seconds), and the CPU seconds used by then."""
PARSE_CPU_SECONDS = 20
"""CPU seconds that reading the inputs of a job may take."""
PACK_THRESHOLD = 1 << 14
"""Characters from which on an input that was read is kept packed: as objects, thirty such lists would fill the memory."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

InputReply = tuple[str, str, str]
"""Status, value and detail of one input."""
SendReply = Callable[[InputReply], None]
"""Sends a reply to the server."""
PreparedArguments = bytes | tuple[object, ...] | str
"""Arguments of a call, packed or not; or why they cannot be read."""
Rlimits = list[tuple[int, tuple[int, int]]]
"""Arguments for `resource.setrlimit`."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def run_child(place: tuple[int, int, int, int], limits: dict[str, Any], bounds: Rlimits, pipes: list[int], user: int) -> None:
    """Become a child: read the job, take descriptors, rights and limits, play, and end.

    Args:
        place: where the job lies: descriptor, first byte, length; and which of its inputs to put on standard input.
        limits: `sandbox.runner.Limits` as data.
        bounds: of a process under these limits.
        pipes: for answers, and in mode `stdin` for what is printed.
        user: uid of the programs.

    Raises:
        SystemExit: the interpreter must exit as always, because something that the program has left could print then.
    """
    code, unfinished = 1, False
    try:
        jobs, start, size, number = place
        job = json.loads(os.pread(jobs, size, start))
        close_other_descriptors(pipes)
        prints = job["mode"] == "stdin"
        if prints:
            _use_standard_streams(job["inputs"][number], pipes.pop())
        os.setpgid(0, 0)
        os.chdir(SCRATCH)
        apply_rlimits(bounds)
        set_cpu_limit(PARSE_CPU_SECONDS, PARSE_CPU_SECONDS + limits["cpu_seconds"] + 1)
        drop_privileges(user)
        refuse_exec()
        answers, asked = pipes[0], os.getpid()
        dumps = json.dumps

        def say(reply: InputReply) -> None:
            if os.getpid() != asked:
                # A program forked and forgot which half it is.
                os._exit(0)
            text = dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
            write_all(answers, struct.pack("!I", len(text)) + text)

        inputs = [] if prints else [prepare_arguments(text) for text in job["inputs"]]
        used = time.process_time()
        # The kernel counts whole seconds; a tenth of one more or less does not matter.
        seconds = limits["cpu_seconds"] + int(used + 0.9)
        set_cpu_limit(seconds, seconds + 1)
        write_all(answers, START_RECORD.pack(time.monotonic(), used))
        if prints:
            unfinished = run_stdin_program(job, say)
        else:
            run_function(job, inputs, limits["output_kb"] * 1024, say)
        code = 0
    except BaseException:  # whatever a program does to us, the server only looks at the wait status
        code = 1
    if unfinished:
        raise SystemExit(0)
    os._exit(code)


def close_other_descriptors(keep: Sequence[int]) -> None:
    """Close all descriptors but these, and open standard streams that nobody shares.

    Flags, owners and locks belong to the open file and not to the descriptor: in a shared one they would outlive the program.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    first = 3
    for fd in (*sorted(keep), MAX_SERVER_FDS):
        os.closerange(first, fd)
        first = fd + 1


def rlimits_of(limits: dict[str, Any]) -> Rlimits:
    """What a process may use under these limits, but for CPU time; worked out by a server, once for all children.

    How many processes there may be is up to the container's pids cgroup.
    """
    bounds = []
    for what, value in (
        (resource.RLIMIT_STACK, limits["stack_mb"] << 20),
        (resource.RLIMIT_AS, limits["memory_mb"] << 20),
        (resource.RLIMIT_FSIZE, limits["file_mb"] << 20),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        most = resource.getrlimit(what)[1]
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        bounds.append((what, (least, least)))
    return bounds


def apply_rlimits(bounds: Rlimits) -> None:
    """Set the limits of a process, and let the kernel take it before the server when memory runs out."""
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
    for what, bound in bounds:
        resource.setrlimit(what, bound)


def set_cpu_limit(seconds: int, most: int) -> None:
    """Limit CPU time. The soft limit ends a program by SIGXCPU, which says why; the hard one ends those that ignore it."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def draw_uid() -> int:
    """A uid that hardly any other container has: the kernel counts pipes, signals and more by user, on the whole machine."""
    with open("/proc/self/uid_map") as file:
        last = max(int(line.split()[0]) + int(line.split()[2]) for line in file)
    first, end = UID_RANGE if last > UID_RANGE[1] else SMALL_UID_RANGE
    return first + int.from_bytes(os.urandom(4), "big") % (end - first)


def drop_privileges(user: int) -> None:
    """Become a user without rights; capabilities go with uid 0."""
    os.setgroups([])
    os.setresgid(NOBODY_GID, NOBODY_GID, NOBODY_GID)
    os.setresuid(user, user, user)


def refuse_exec() -> None:
    """Stay this program, though the container's list of system calls must let the server become one.

    A process that becomes another program gets its files in /proc back, and with them the score by which the kernel chooses
    whom to kill when memory runs out: it could have the server killed in its place.
    """
    prctl, program, _ = exec_filter()
    if prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


@functools.cache
def exec_filter() -> tuple[Callable[..., int], bytes, object]:
    """The C library's prctl, a filter that refuses execve and execveat, and its memory. Made once, in the server."""
    first, second = EXEC_CALLS[os.uname().machine]
    # Load the call's number; two jumps to the refusal; allow; refuse with EPERM. The container's list has checked the machine.
    steps = ((0x20, 0, 0, 0), (0x15, 2, 0, first), (0x15, 1, 0, second), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return libc().prctl, program, code


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library, with the two functions that children call; found once, in the server."""
    library = ctypes.CDLL(None, use_errno=True)
    # Looked up once here, each is an attribute that children find.
    assert library.prctl
    assert library.fflush
    return library


def _use_standard_streams(text: str, stdout: int) -> None:
    stdin = os.memfd_create("stdin")
    write_all(stdin, text.encode("utf-8", "replace"))
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.close(stdin)
    os.close(stdout)
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]


def prepare_arguments(text: str) -> PreparedArguments:
    """The arguments that a text stands for, ready for the call; before the program begins, so that its time is its own."""
    try:
        arguments = literal.read_arguments(text)
    except literal.NotLiteral as error:
        return str(error)
    except MemoryError:
        return "it does not fit into the memory"
    return marshal.dumps(arguments) if len(text) >= PACK_THRESHOLD and not _holds_set(arguments) else arguments  # type: ignore[arg-type]


def _holds_set(value: object) -> bool:
    """Whether there is a set in it: packed and unpacked, its elements could be in another order."""
    if isinstance(value, dict):
        return any(map(_holds_set, value)) or any(map(_holds_set, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_set, value))
    return isinstance(value, (set, frozenset))


def run_function(job: dict[str, Any], inputs: list[PreparedArguments], room: int, say: SendReply) -> None:
    """Define the program once, then call its entry on every input; a value may have `room` bytes."""
    try:
        space = _execute_source(job["source"], "solution")
        cls, _, method = job["entry"].rpartition(".")
        if (cls or method) not in space:
            raise NameError(f"the program defines no {cls or method}")
    except BaseException as error:  # a program may raise anything
        failed = _failure_reply(error)
        for _ in inputs:
            say(failed)
        return
    inputs.reverse()
    while inputs:
        say(_call(space, cls, method, inputs.pop(), room))


def _call(space: dict[str, Any], cls: str, method: str, given: PreparedArguments, room: int) -> InputReply:
    if isinstance(given, str):
        return "runtime_error", "", f"the input is not a list of literals: {given}"
    try:
        arguments = marshal.loads(given) if isinstance(given, bytes) else given  # noqa: S302  # packed by us
        result = (getattr(space[cls](), method) if cls else space[method])(*arguments)
        value = literal.write(result, room)
        return ("ok", value, "") if len(value.encode()) <= room else ("output_limit", "", "result is too long")
    except literal.NotLiteral as error:
        return "unprintable", "", str(error)[:200]
    except literal.TooLarge as error:
        return "output_limit", "", str(error)
    except BaseException as error:  # a program may raise anything
        return _failure_reply(error)


def run_stdin_program(job: dict[str, Any], say: SendReply) -> bool:
    """Run the program as `__main__`, to the end of its threads and exit handlers, and say how it ended.

    `sys.exit` of any code is an end. What is raised after the program's last line changes nothing, as under CPython.

    Returns:
        Whether the program has left something that could print while the interpreter exits, so that it must exit as always.
        So must the other half of a fork, which answers nothing.
    """
    asked = os.getpid()
    atexit._clear()
    streams = exit_output.standard_streams()
    failed = _run_as_main(job["source"])
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if os.getpid() != asked:
        return True
    if failed:
        say(failed)
        return False
    say(("ok", "", ""))
    if exit_output.may_print_at_exit(streams):
        return True
    exit_output.flush(streams)
    libc().fflush(None)
    return False


def _run_as_main(source: str) -> InputReply | None:
    """Run a program; why it failed, if it did."""
    try:
        _execute_source(source, "__main__")
    except SystemExit:
        return None
    except BaseException as error:  # a program may raise anything
        failed = _failure_reply(error)
        hook = sys.excepthook
        if hook is not sys.__excepthook__ and not isinstance(error, _CompileError):
            try:
                hook(type(error), error, error.__traceback__)
            except SystemExit:
                return None
            except BaseException:
                return failed
        return failed
    return None


def _execute_source(source: str, name: str) -> dict[str, Any]:
    try:
        code = compile(source, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
        raise _CompileError(f"{type(error).__name__}: {error}") from None
    module = type(sys)(name)
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102  # this is what the container is for
    return module.__dict__


class _CompileError(Exception):
    """The source does not compile."""


def _failure_reply(error: BaseException) -> InputReply:
    if isinstance(error, MemoryError):
        return "memory_limit", "", "MemoryError"
    if isinstance(error, _CompileError):
        return "syntax_error", "", str(error)[:200]
    try:
        detail = f"{type(error).__name__}: {error}"[:200]
    except BaseException:  # __str__ is the program's, too
        detail = "an exception that cannot be printed"
    return ("exited" if isinstance(error, SystemExit) else "runtime_error"), "", detail
