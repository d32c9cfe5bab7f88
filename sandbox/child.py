"""What a child of the fork server does: drop every right, then run one untrusted program and say what came out.

Law: rights go before the program's first byte is compiled. After that the program owns this process and may do what it
likes with it, so nothing here is trusted by anyone; the server looks only at well-formed replies and the wait status.
Stdlib only: this file lies in the container. It does not enforce time and does not judge.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import os
import resource
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox import literal

SCRATCH = "/tmp"  # noqa: S108  # the container's own tmpfs; nothing is deleted by this path
"""The only writable place; it must be a mount of its own."""
NOBODY = 65534
"""Uid and gid of the programs."""
EXEC_CALLS = {"x86_64": (59, 322), "aarch64": (221, 281)}
"""Numbers of execve and execveat."""
STARTED = b"\x01"
"""First byte of a child's answers: rights are dropped and limits are set."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

Reply = tuple[str, str, str]
"""Status, value and detail of one input."""
Say = Callable[[Reply], None]
"""Sends a reply to the server."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def enter(place: tuple[int, int, int, int], limits: dict[str, Any], pipes: list[int], shut: tuple[int, ...]) -> NoReturn:
    """Become a child: read the job, close the server's descriptors, set limits, drop rights, play, and never return.

    Args:
        place: where the job lies: descriptor, first byte, length; and which of its inputs to put on standard input.
        limits: `sandbox.runner.Limits` as data.
        pipes: for answers, and in mode `stdin` for what is printed.
        shut: what is the server's alone.
    """
    code = 0
    try:
        jobs, start, size, number = place
        job = json.loads(os.pread(jobs, size, start))
        for fd in (jobs, *shut):
            os.close(fd)
        # The container's standard error is for the server's last words; a program's go to /dev/null, as its output does.
        os.dup2(0, 2)
        if job["mode"] == "stdin":
            _use_standard_streams(job["inputs"][number], pipes.pop())
        os.setpgid(0, 0)
        os.chdir(SCRATCH)
        limit(limits)
        drop()
        refuse_exec()
        answers, asked = pipes[0], os.getpid()
        write_all(answers, STARTED)
        dumps = json.dumps

        def say(reply: Reply) -> None:
            if os.getpid() != asked:
                # A program forked and forgot which half it is.
                os._exit(0)
            text = dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
            write_all(answers, struct.pack("!I", len(text)) + text)

        if job["mode"] == "stdin":
            stdin_child(job, say)
        else:
            function_child(job, limits, say)
    except BaseException:  # whatever a program does to us, the server only looks at the wait status
        code = 1
    finally:
        os._exit(code)


def limit(limits: dict[str, Any]) -> None:
    """Set the limits of one process, and let the kernel take it before the server when memory runs out.

    How many processes there may be is up to the container's pids cgroup: RLIMIT_NPROC would count those of uid 65534 on
    the whole machine, and so let one program starve another.
    """
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
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
        resource.setrlimit(what, (least, least))
    # The soft limit ends a program by SIGXCPU, which says why; the hard one, a second later, ends those that ignore it.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_seconds"], limits["cpu_seconds"] + 1))


def drop() -> None:
    """Become nobody; capabilities go with the uid."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


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
    return ctypes.CDLL(None, use_errno=True).prctl, program, code


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


def function_child(job: dict[str, Any], limits: dict[str, Any], say: Say) -> None:
    """Define the program once, then call its entry on every input."""
    try:
        space = _define(job["source"], "solution")
        cls, _, method = job["entry"].rpartition(".")
        if (cls or method) not in space:
            raise NameError(f"the program defines no {cls or method}")
    except BaseException as error:  # a program may raise anything
        failed = _failure(error)
        for _ in job["inputs"]:
            say(failed)
        return
    for text in job["inputs"]:
        say(_call(space, cls, method, text, limits["output_kb"] * 1024))


def _call(space: dict[str, Any], cls: str, method: str, text: str, room: int) -> Reply:
    try:
        try:
            arguments = literal.read_arguments(text)
        except literal.NotLiteral as error:
            return "runtime_error", "", f"the input is not a list of literals: {error}"
        result = (getattr(space[cls](), method) if cls else space[method])(*arguments)
        value = literal.write(result, room)
        return ("ok", value, "") if len(value.encode()) <= room else ("output_limit", "", "result is too long")
    except literal.NotLiteral as error:
        return "unprintable", "", str(error)[:200]
    except literal.TooLarge as error:
        return "output_limit", "", str(error)
    except BaseException as error:  # a program may raise anything
        return _failure(error)


def stdin_child(job: dict[str, Any], say: Say) -> None:
    """Run the program as `__main__`, to the end of its threads and exit handlers. `sys.exit` of any code is an end."""
    stdout = sys.stdout
    atexit._clear()
    try:
        with contextlib.suppress(SystemExit):
            _define(job["source"], "__main__")
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, stdout):
            if not stream.closed:
                stream.flush()
        say(("ok", "", ""))
    except BaseException as error:  # a program may raise anything
        say(_failure(error))


def _define(source: str, name: str) -> dict[str, Any]:
    try:
        code = compile(source, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
        raise _NotPython(f"{type(error).__name__}: {error}") from None
    module = type(sys)(name)
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102  # this is what the container is for
    return module.__dict__


class _NotPython(Exception):
    """The source does not compile."""


def _failure(error: BaseException) -> Reply:
    if isinstance(error, MemoryError):
        return "memory_limit", "", "MemoryError"
    if isinstance(error, _NotPython):
        return "syntax_error", "", str(error)[:200]
    try:
        detail = f"{type(error).__name__}: {error}"[:200]
    except BaseException:  # __str__ is the program's, too
        detail = "an exception that cannot be printed"
    return ("exited" if isinstance(error, SystemExit) else "runtime_error"), "", detail
