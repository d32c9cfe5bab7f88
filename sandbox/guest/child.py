"""What a child of the fork server does: give up all rights, run one untrusted program, send a reply for each input.

Guarantees: rights and the server's descriptors are gone before the first byte of the program is compiled. After that the
program owns this process and nothing that it sends is trusted: the host reads only well-formed replies and the wait status.
Not responsible for: wall-clock limits and verdicts. Standard library only: this file is copied into the image.
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
"""The only writable folder; it must be a mount of its own."""
NOBODY_GID = 65534
"""Gid of the programs."""
UID_RANGE = (1 << 30, 1 << 31)
"""Uids that no person or service has; each container draws one of them for its programs."""
SMALL_UID_RANGE = (30_000, 65_000)
"""The same where the engine maps only the usual 65 536 uids into containers."""
MAX_SERVER_FDS = 4096
"""Most open descriptors of a server."""
EXEC_CALLS = {"x86_64": (59, 322), "aarch64": (221, 281)}
"""Numbers of the system calls execve and execveat, by machine."""
START_RECORD = struct.Struct("=dd")
"""First bytes that a child sends, once rights are dropped, limits set and inputs parsed: when the program began (monotonic
seconds), and the CPU seconds used until then."""
PARSE_CPU_SECONDS = 20
"""Most CPU seconds to parse the inputs of a job."""
PACK_THRESHOLD = 1 << 14
"""Characters from which on a parsed input waits marshalled: as objects, thirty such lists would fill the memory."""
FRAMES_BELOW = 12
"""Calls of ours that a program's first line stands on; its limit of recursion is higher by as many."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

InputReply = tuple[str, str, str]
"""Status, value and detail for one input."""
SendReply = Callable[[InputReply], None]
"""Sends a reply to the host."""
PreparedArguments = bytes | tuple[object, ...] | str
"""Arguments of a call, marshalled or not, or the reason why they cannot be parsed."""
Rlimits = list[tuple[int, tuple[int, int]]]
"""Arguments for `resource.setrlimit`."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def run_child(
    location: tuple[int, int, int, int], limits: dict[str, Any], rlimits: Rlimits, pipes: list[int], uid: int
) -> None:
    """The whole life of a child after the fork: read the job, drop rights, set limits, run the program, exit.

    Args:
        location: of the job: descriptor, first byte, length; and the number of the input for standard input.
        limits: `sandbox.runner.Limits` as data.
        rlimits: for a process under these limits.
        pipes: for replies, and in mode `stdin` for standard output.
        uid: of the programs.

    Raises:
        SystemExit: the interpreter must exit the usual way, because objects that the program has left could print then.
    """
    code, exit_normally = 1, False
    try:
        jobs, start, size, number = location
        job = json.loads(os.pread(jobs, size, start))
        close_other_descriptors(pipes)
        is_stdin = job["mode"] == "stdin"
        if is_stdin:
            _use_standard_streams(job["inputs"][number], pipes.pop())
        os.setpgid(0, 0)
        os.chdir(SCRATCH)
        apply_rlimits(rlimits)
        set_cpu_limit(PARSE_CPU_SECONDS, PARSE_CPU_SECONDS + limits["cpu_seconds"] + 1)
        drop_privileges(uid)
        refuse_exec()
        replies, own_pid = pipes[0], os.getpid()
        # Bound here: a program may replace `json.dumps`.
        dumps = json.dumps

        def send(reply: InputReply) -> None:
            if os.getpid() != own_pid:
                # The program forked, and its child has come to the end as well.
                os._exit(0)
            text = dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
            write_all(replies, struct.pack("!I", len(text)) + text)

        inputs = [] if is_stdin else [prepare_arguments(text) for text in job["inputs"]]
        used = time.process_time()
        # RLIMIT_CPU has whole seconds; a tenth more or less does not matter.
        seconds = limits["cpu_seconds"] + int(used + 0.9)
        set_cpu_limit(seconds, seconds + 1)
        sys.setrecursionlimit(sys.getrecursionlimit() + FRAMES_BELOW)
        write_all(replies, START_RECORD.pack(time.monotonic(), used))
        if is_stdin:
            exit_normally = run_stdin_program(job, send)
        else:
            run_function(job, inputs, limits["output_kb"] * 1024, send)
        code = 0
    except BaseException:  # a program may raise anything; the wait status says that it did
        code = 1
    if exit_normally:
        raise SystemExit(0)
    os._exit(code)


def close_other_descriptors(keep: Sequence[int]) -> None:
    """Close all descriptors but these, and open /dev/null anew as the standard streams.

    Flags, owners and locks belong to the open file and not to the descriptor: in one that is shared with the server they would
    outlive the program.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    first = 3
    for fd in (*sorted(keep), MAX_SERVER_FDS):
        os.closerange(first, fd)
        first = fd + 1


def rlimits_of(limits: dict[str, Any]) -> Rlimits:
    """The rlimits of a process, without CPU time; computed by a server, once for all children.

    The number of processes is limited by the container's pids cgroup.
    """
    rlimits = []
    for kind, value in (
        (resource.RLIMIT_STACK, limits["stack_mb"] << 20),
        (resource.RLIMIT_AS, limits["memory_mb"] << 20),
        (resource.RLIMIT_FSIZE, limits["file_mb"] << 20),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        rlimits.append((kind, (allowed, allowed)))
    return rlimits


def apply_rlimits(rlimits: Rlimits) -> None:
    """Set the limits of this process, and have the kernel kill it before the server when memory runs out."""
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
    for kind, bounds in rlimits:
        resource.setrlimit(kind, bounds)


def set_cpu_limit(soft: int, hard: int) -> None:
    """Limit CPU seconds: at the soft limit SIGXCPU kills a program and gives the cause, at the hard limit SIGKILL does."""
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def draw_uid() -> int:
    """A uid that hardly any other container has: the kernel limits pipes, signals and more per user of the whole machine."""
    with open("/proc/self/uid_map") as file:
        last = max(int(line.split()[0]) + int(line.split()[2]) for line in file)
    first, end = UID_RANGE if last > UID_RANGE[1] else SMALL_UID_RANGE
    return first + int.from_bytes(os.urandom(4), "big") % (end - first)


def drop_privileges(uid: int) -> None:
    """Drop to an unprivileged uid and to gid 65534; capabilities go with uid 0."""
    os.setgroups([])
    os.setresgid(NOBODY_GID, NOBODY_GID, NOBODY_GID)
    os.setresuid(uid, uid, uid)


def refuse_exec() -> None:
    """Install a seccomp filter that refuses exec, which the container's own profile must allow to start the server.

    A process that execs gets its files in /proc back, among them the score by which the kernel chooses whom to kill when memory
    runs out: it could have the server killed in its place.
    """
    # The container's no-new-privileges lets a process without rights install a filter.
    prctl, program, _ = exec_filter()
    if prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel accepts no seccomp filter")


@functools.cache
def exec_filter() -> tuple[Callable[..., int], bytes, object]:
    """The C library's prctl, a BPF program that refuses execve and execveat, and its memory. Made once, in the server."""
    first, second = EXEC_CALLS[os.uname().machine]
    # Load the call's number; two jumps to the refusal; allow; refuse with EPERM. The profile checks the architecture.
    steps = ((0x20, 0, 0, 0), (0x15, 2, 0, first), (0x15, 1, 0, second), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return libc().prctl, program, code


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library, with the two functions that children call; loaded once, in the server."""
    library = ctypes.CDLL(None, use_errno=True)
    # Looking a function up stores it as an attribute, so that children need not.
    assert library.prctl
    assert library.fflush
    return library


def _use_standard_streams(text: str, stdout: int) -> None:
    stdin = os.memfd_create("stdin")
    write_all(stdin, text.encode("utf-8", "replace"))
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    # A program may open /dev/stdout, which the kernel allows whoever may open the pipe.
    os.fchmod(1, 0o666)
    os.close(stdin)
    os.close(stdout)
    # Final for type checkers; but a program may read and write these as well as `sys.stdin` and `sys.stdout`.
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", encoding="utf-8", errors="surrogateescape", closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # type: ignore[misc]


def prepare_arguments(text: str) -> PreparedArguments:
    """Parse the arguments of one call; this happens before the program begins, so that it does not count as its time."""
    try:
        arguments = literal.read_arguments(text)
    except literal.NotLiteral as error:
        return str(error)
    except MemoryError:
        return "it does not fit into the memory"
    # Literals are of types that marshal takes, which no type here can say.
    return marshal.dumps(arguments) if len(text) >= PACK_THRESHOLD and not _holds_set(arguments) else arguments  # type: ignore[arg-type]


def _holds_set(value: object) -> bool:
    """Whether it contains a set, whose elements could change their order when it is marshalled."""
    if isinstance(value, dict):
        return any(map(_holds_set, value)) or any(map(_holds_set, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_set, value))
    return isinstance(value, (set, frozenset))


def run_function(job: dict[str, Any], inputs: list[PreparedArguments], max_bytes: int, send: SendReply) -> None:
    """Execute the program once, then call its entry on every input; a value may have `max_bytes` bytes."""
    try:
        namespace = _execute_source(job["source"], "solution")
        cls, _, method = job["entry"].rpartition(".")
        if (cls or method) not in namespace:
            raise NameError(f"the program defines no {cls or method}")
    except BaseException as error:  # a program may raise anything
        failed = _failure_reply(error)
        for _ in inputs:
            send(failed)
        return
    # Each input is freed before the next call.
    inputs.reverse()
    while inputs:
        send(_call(namespace, cls, method, inputs.pop(), max_bytes))


def _call(namespace: dict[str, Any], cls: str, method: str, prepared: PreparedArguments, max_bytes: int) -> InputReply:
    if isinstance(prepared, str):
        return "runtime_error", "", f"the input is not a list of literals: {prepared}"
    try:
        arguments = marshal.loads(prepared) if isinstance(prepared, bytes) else prepared  # noqa: S302  # marshalled by us
        result = (getattr(namespace[cls](), method) if cls else namespace[method])(*arguments)
        value = literal.write(result, max_bytes)
        # The writer counts characters, the limit is in bytes.
        return ("ok", value, "") if len(value.encode()) <= max_bytes else ("output_limit", "", "result is too long")
    except literal.NotLiteral as error:
        return "unprintable", "", str(error)[:200]
    except literal.TooLarge as error:
        return "output_limit", "", str(error)
    except BaseException as error:  # a program may raise anything
        return _failure_reply(error)


def run_stdin_program(job: dict[str, Any], send: SendReply) -> bool:
    """Run the program as `__main__`, to the end of its threads and exit handlers, and send a reply.

    `sys.exit` with any code counts as success. Exceptions after the program's last line change nothing, as in CPython.

    Returns:
        Whether the interpreter must exit the usual way: the program has left objects that could print then, or this process
        was forked by the program and sends no reply.
    """
    own_pid = os.getpid()
    # Handlers of the server's own libraries are not the program's.
    atexit._clear()
    streams = exit_output.standard_streams()
    failed = _run_as_main(job["source"])
    # As CPython does behind the last line of a file: an exit by number in a thread or a handler then loses nothing.
    exit_output.flush(getattr(sys, "stderr", None), getattr(sys, "stdout", None))
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # typeshed leaves it out
    atexit._run_exitfuncs()
    if os.getpid() != own_pid:
        return True
    if failed:
        send(failed)
        return False
    # A program that closes whatever descriptors there are has closed the pipe, too; its exit code says that it has ended.
    with contextlib.suppress(OSError):
        send(("ok", "", ""))
    if exit_output.may_print_at_exit(streams):
        return True
    exit_output.flush(*streams[:2])
    libc().fflush(None)
    return False


def _run_as_main(source: str) -> InputReply | None:
    """Run a program as `__main__`; the reply if it fails, None if it does not."""
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
    module.__file__ = f"{SCRATCH}/{name}.py"
    # Registered, because `dataclasses` and `pickle` look a class's module up by its name.
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
    except BaseException:  # the program's own __str__ may raise
        detail = "an exception that cannot be printed"
    return ("exited" if isinstance(error, SystemExit) else "runtime_error"), "", detail
