"""The program that runs inside the container, as its pid 1: a fork server that plays jobs one after another.

Law: it refuses to start outside its container, deletes only through a descriptor of its own scratch mount, and never
sees an expected answer. One fresh child a job (mode `stdin`: one an input), as uid 65534 with limits; when the child
has answered, died or run out of time, every process in the container is killed. Stdlib only. It does not judge.

Frames on stdin and stdout: 4 bytes length, then JSON. In: `{limits, jobs}`. Out: `{protocol, server}` once, then
`{runs, cpu_seconds, peak_mb, clean, server}` for each job; `server` says how large the server itself is. A child answers
through a pipe of its own, so nothing that a program prints is taken for an answer.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox.child import SCRATCH, STARTED, Reply, Say, drop, enter, exec_filter, function_child, stdin_child, write_all
from sandbox.ending import TAMPERED, Ending, Usage, explain, printed, read_answers

PROTOCOL = 1
"""Number of the agreement with the host; changes with the frames."""
FLAG = "GASP_INSIDE"
"""Environment flag that only our containers set."""
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", os.devnull)
"""Where the kernel counts the processes that it kills for memory: control groups version 2, version 1, nowhere."""
PAGE = os.sysconf("SC_PAGE_SIZE")
SWEEP_SECONDS = 10
"""How long removing the leftovers of one job may take."""
PRELOADED = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal"
    " enum fractions functools hashlib heapq io itertools json math numbers operator queue random re statistics string"
    " struct textwrap threading time traceback types typing unicodedata zlib"
)
"""Imported once here, so that programs find them warm."""


def refuse_outside() -> None:
    """Stop unless this is pid 1 of a container of ours: the server kills every process it can see."""
    inside = os.getpid() == 1 and os.path.exists("/.dockerenv") and os.environ.get(FLAG) == "1"
    if not inside:
        sys.stderr.write("inside.py runs only as pid 1 of a GASP sandbox container; use sandbox.docker.DockerRunner.\n")
        raise SystemExit(78)


# --- frames ---------------------------------------------------------------------------------------------------------


def read_frame(fd: int) -> Any | None:
    """The next frame, or None when the other side has gone."""
    head = _read_exactly(fd, 4)
    body = _read_exactly(fd, struct.unpack("!I", head)[0]) if head else b""
    return json.loads(body) if body else None


def write_frame(fd: int, message: object) -> None:
    """Write one frame whole."""
    body = json.dumps(message).encode()
    write_all(fd, struct.pack("!I", len(body)) + body)


def _read_exactly(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# --- the server's side of one child ---------------------------------------------------------------------------------


class Server:
    """Serves frames until the host goes away."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests = requests
        self._replies = replies
        self._scratch = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(self._scratch).st_dev == os.stat("/").st_dev:
            raise SystemExit("scratch folder is not a mount of its own")
        self._memory = os.open("/proc/self/statm", os.O_RDONLY)
        self._oom = os.open(next(path for path in OOM_COUNTERS if os.path.exists(path)), os.O_RDONLY)
        self._own = (requests, replies, self._scratch, self._memory, self._oom)

    def serve(self) -> None:
        """Answer requests; one frame a job, as soon as it is done."""
        write_frame(self._replies, {"protocol": PROTOCOL, "server": self._size()})
        while (request := read_frame(self._requests)) is not None:
            for job in request["jobs"]:
                play = self._play_stdin if job["mode"] == "stdin" else self._play_function
                runs, usage = play(job, request["limits"])
                reply = {"runs": runs, "cpu_seconds": round(usage.cpu, 6), "peak_mb": round(usage.peak / 1024, 2)}
                write_frame(self._replies, {**reply, "clean": self._tidy(), "server": self._size()})

    def _size(self) -> tuple[float, int]:
        """Resident MiB of the server, and its lowest free descriptor: both stay, or it leaks."""
        pages = int(os.pread(self._memory, 100, 0).split()[1])
        free = os.dup(self._scratch)
        os.close(free)
        return round(pages * PAGE / 2**20, 2), free

    def _oom_kills(self) -> int:
        lines = os.pread(self._oom, 1000, 0).decode().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def _play_function(self, job: dict[str, Any], limits: dict[str, Any]) -> tuple[list[Reply], Usage]:
        count = len(job["inputs"])
        # JSON doubles every backslash and quote of a value at worst.
        room = count * (2 * limits["output_kb"] * 1024 + 4096) + 1024
        deadline = time.monotonic() + limits["wall_seconds"]
        end = self._spawn(lambda say: function_child(job, limits, say), limits, deadline, room)
        answers = read_answers(end, count)
        if answers is None:
            return [TAMPERED] * count, end.usage
        return answers + [explain(end, limits["cpu_seconds"])] * (count - len(answers)), end.usage

    def _play_stdin(self, job: dict[str, Any], limits: dict[str, Any]) -> tuple[list[Reply], Usage]:
        deadline = time.monotonic() + limits["wall_seconds"]
        used = Usage()
        runs: list[Reply] = []
        for text in job["inputs"]:
            cpu_left = limits["cpu_seconds"] - used.cpu
            if cpu_left <= 0 or time.monotonic() >= deadline:
                runs.append(("time_limit", "", "not reached: earlier inputs used up the job's time"))
                continue
            now = {**limits, "cpu_seconds": max(1, round(cpu_left))}
            end = self._spawn(lambda say: stdin_child(job, say), now, deadline, 4096, text.encode("utf-8", "replace"))
            used.add(end.usage.cpu, end.usage.peak)
            runs.append(printed(end, now["cpu_seconds"]))
        return runs, used

    def _spawn(
        self,
        body: Callable[[Say], None],
        limits: dict[str, Any],
        deadline: float,
        answer_room: int,
        stdin: bytes | None = None,
    ) -> Ending:
        answers, inner_answers = os.pipe()
        captured = {answers: (answer_room, "tampered")}
        inner = {"answers": inner_answers}
        if stdin is not None:
            output, inner["stdout"] = os.pipe()
            captured[output] = (limits["output_kb"] * 1024, "output_limit")
            inner["stdin"] = os.memfd_create("stdin")
            write_all(inner["stdin"], stdin)
            os.lseek(inner["stdin"], 0, os.SEEK_SET)
        oom_kills = self._oom_kills()
        pid = os.fork()
        if pid == 0:
            enter(body, limits, inner, (*self._own, *captured))
        for fd in inner.values():
            os.close(fd)
        try:
            data, cause, status, usage = self._watch(pid, captured, deadline)
        finally:
            for fd in captured:
                os.close(fd)
        if not cause and not data[answers].startswith(STARTED):
            raise SystemExit("a child could not drop its rights or set its limits")
        printed = b"".join(data[fd] for fd in list(captured)[1:])
        return Ending(data[answers][1:], printed, cause, status, usage, self._oom_kills() > oom_kills)

    def _watch(
        self, pid: int, captured: dict[int, tuple[int, str]], deadline: float
    ) -> tuple[dict[int, bytes], str, int, Usage]:
        """Collect what the child writes until it exits, overflows or is out of time; then leave no process behind."""
        data = dict.fromkeys(captured, b"")
        exited = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(exited, select.POLLIN)
        poll.register(self._requests, 0)
        for fd in captured:
            poll.register(fd, select.POLLIN)
        cause, running = "", True
        try:
            while running and not cause:
                left = deadline - time.monotonic()
                cause = "" if left > 0 else "time_limit"
                for fd, event in poll.poll(max(0.0, left) * 1000):
                    if fd == self._requests:
                        if event & (select.POLLHUP | select.POLLERR):
                            raise SystemExit(0)
                    elif fd == exited:
                        running = False
                    elif not _take(fd, data, captured[fd][0]):
                        cause = captured[fd][1] if len(data[fd]) > captured[fd][0] else cause
                        poll.unregister(fd)
        finally:
            os.close(exited)
            status, usage = kill_all(pid)
        for fd, (room, overflow) in captured.items():
            while not cause and _take(fd, data, room):
                pass
            cause = cause or (overflow if len(data[fd]) > room else "")
        return data, cause, status, usage

    def _tidy(self) -> bool:
        """Empty the scratch mount; False if something is left, then the host replaces this container."""
        if os.listdir(self._scratch):
            pid = os.fork()
            if pid == 0:
                _sweep(self._scratch)
            kill_all(pid, at_once=False)
        return not os.listdir(self._scratch)


def kill_all(pid: int, at_once: bool = True) -> tuple[int, Usage]:
    """Kill every other process of the container and reap them; wait status of `pid`, and what all of them used.

    As pid 1 the server adopts all orphans, hence no child left to wait for means no process left at all.
    """
    status, used = 0, Usage()
    first = None if at_once else os.wait4(pid, 0)
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            gone, code, usage = first or os.wait4(-1, 0)
        except ChildProcessError:
            return status, used
        first = None
        used.add(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        if gone == pid:
            status = code


def _take(fd: int, data: dict[int, bytes], room: int) -> bool:
    """Read once; False at the end of the pipe or when there is more than `room`."""
    part = os.read(fd, 1 << 16)
    data[fd] += part
    return bool(part) and len(data[fd]) <= room


def _sweep(scratch: int) -> NoReturn:
    """In a child: remove what the programs left, with their rights and not with ours."""
    try:
        drop()
        signal.alarm(SWEEP_SECONDS)
        while names := os.listdir(scratch):
            for name in names:
                try:
                    os.unlink(name, dir_fd=scratch)
                except IsADirectoryError:
                    _raze(name, scratch)
    finally:
        os._exit(0)


def _raze(name: str, scratch: int) -> None:
    """Remove a folder, after lifting the folders in it up to the top: no depth is too deep, and no link is followed."""
    os.chmod(name, 0o700, dir_fd=scratch)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=scratch)
    for inner in os.listdir(folder):
        try:
            os.unlink(inner, dir_fd=folder)
        except IsADirectoryError:
            os.chmod(inner, 0o700, dir_fd=folder)
            os.rename(inner, os.urandom(8).hex(), src_dir_fd=folder, dst_dir_fd=scratch)
    os.close(folder)
    os.rmdir(name, dir_fd=scratch)


def main() -> None:
    """Take the protocol's descriptors away from the standard streams, warm up, serve."""
    refuse_outside()
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nothing, fd)
    for name in PRELOADED.split():
        importlib.import_module(name)
    exec_filter()
    gc.collect()
    gc.freeze()
    Server(requests, replies).serve()


if __name__ == "__main__":
    main()
