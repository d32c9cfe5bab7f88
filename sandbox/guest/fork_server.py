"""The fork server: pid 1 of a sandbox container, which runs jobs one after another, each in a fresh child.

Guarantees:
- It refuses to start outside its container, and deletes only through a descriptor of its own scratch mount.
- Each job has a new child (mode `stdin`: one per input) with limits and an unprivileged uid of the container's own. When it has
  replied, exited or run out of time, every process in the container is killed and the scratch folder is emptied.
- Every child is a copy of the server, so the server parses no program, input or reply: they pass through one buffer, which is
  wiped. It never sees an expected output.

Frames on stdin and stdout are 4 bytes length, then JSON. In: `{limits, jobs}`, then the jobs, each as long as its frame says.
Out: `{protocol, server}` once, then for each job `{ends, seconds, cpu_seconds, peak_mb, clean, server}`, then the replies and
the standard output of its children; `server` is the size of the server itself. A child replies through a pipe of its own, so
what a program prints is never taken for a reply. The first bytes there say when the program began: its time limits do not count
what was done before.

Speed: each page that server or child write to after a fork is copied, which takes longer than the work itself. So both do
little, the server warms up what a child does first, and replies are sent in batches. Standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from sandbox.guest.child import (
    MAX_SERVER_FDS,
    NOBODY_GID,
    PARSE_CPU_SECONDS,
    SCRATCH,
    START_RECORD,
    Rlimits,
    draw_uid,
    exec_filter,
    prepare_arguments,
    rlimits_of,
    run_child,
    run_function,
    write_all,
)
from sandbox.guest.leftovers import kill_and_reap_all, remove_leftovers
from sandbox.guest.oom_kills import OomKills
from sandbox.guest.usage import Usage, seconds_without_core

PROTOCOL = 3
"""Version of the frames' format."""
CONTAINER_FLAG = "GASP_INSIDE"
"""Environment flag that only our containers set."""
PAGE = os.sysconf("SC_PAGE_SIZE")
PARSE_TIMEOUT_S = 3 * PARSE_CPU_SECONDS
"""Most wall-clock seconds until a child has parsed its inputs, for which it has `PARSE_CPU_SECONDS` of CPU time."""
WAITING = 3
"""A job may wait for a core for so many times its wall-clock limit before its waiting counts against that limit."""
REPLY_BATCH_SECONDS = 0.02
"""Replies within so many seconds are sent together."""
FIRST_POLL_MS = 5
"""Most children exit within so many milliseconds; until then the server does not wake up for their output."""
WARM_UP = {"source": "def f(x): return x", "entry": "f"}
WARM_UP_INPUT = "[1, 'a', 2.5]"
WARM_UP_RUNS = 50
"""Runs of the job `WARM_UP`, after which the interpreter has specialised the code."""
PRELOADED = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal"
    " enum fractions functools hashlib heapq io itertools json math numbers operator queue random re statistics string"
    " struct textwrap threading time traceback types typing unicodedata zlib"
)
"""Modules imported once here, so that programs need not load them."""


def refuse_outside() -> None:
    """Exit unless this is pid 1 of a sandbox container: the server kills every process that it can see."""
    inside = os.getpid() == 1 and os.path.exists("/.dockerenv") and os.environ.get(CONTAINER_FLAG) == "1"
    if not inside:
        sys.stderr.write(
            "fork_server.py runs only as pid 1 of a GASP sandbox container; use sandbox.host.docker_runner.DockerRunner.\n"
        )
        raise SystemExit(78)


# --- frames ---------------------------------------------------------------------------------------------------------


def read_frame(fd: int) -> Any | None:
    """The next frame; None once the other side has closed the stream."""
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


@dataclass
class PipeCapture:
    """The bytes from one pipe of a child."""

    max_bytes: int
    overflow: str
    """Cause of death if there are more than `max_bytes`."""
    file: int
    """Descriptor of the memory file that they go to, unread."""
    size: int = 0
    """Bytes so far."""


class ForkServer:
    """Serves requests until the host closes the stream."""

    def __init__(self, requests: int, replies: int, uid: int) -> None:
        self._requests = requests
        self._replies = replies
        self._uid = uid
        self._scratch = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(self._scratch).st_dev == os.stat("/").st_dev:
            raise SystemExit("scratch folder is not a mount of its own")
        # The number of files that can still be made: by it `_clean_up` knows that nothing is left.
        self._free = os.fstatvfs(self._scratch).f_ffree
        if not self._free:
            raise SystemExit("the scratch folder does not count its files")
        os.utime(self._scratch, (0, 0))
        self._memory = os.open("/proc/self/statm", os.O_RDONLY)
        self._oom_kills = OomKills()
        # Files in memory and not objects: a child is a copy of the server's objects, and other children's texts must not be
        # among them.
        self._jobs, self._answers, self._outputs, self._waiting = (
            os.memfd_create(name) for name in ("jobs", "answers", "outputs", "waiting")
        )
        self._rlimits: Rlimits = []
        self._buffer = memoryview(bytearray(1 << 16))
        self._used = 0

    def serve(self) -> None:
        """Answer requests, job by job."""
        write_frame(self._replies, {"protocol": PROTOCOL, "server": self._size()})
        while (request := read_frame(self._requests)) is not None:
            self._receive(sum(job["size"] for job in request["jobs"]))
            start, since = 0, time.monotonic()
            self._rlimits = rlimits_of(request["limits"])
            for job in request["jobs"]:
                began = time.monotonic()
                ends, usage = self._run_job(job, start, request["limits"])
                start += job["size"]
                reply = {"ends": ends, "cpu_seconds": round(usage.cpu, 6), "peak_mb": round(usage.peak / 1024, 2)}
                reply |= {"clean": self._clean_up(), "server": self._size()}
                now = time.monotonic()
                write_frame(self._waiting, reply | {"seconds": round(now - began, 6)})
                for file in (self._answers, self._outputs):
                    _transfer(file, self._waiting)
                if now - since > REPLY_BATCH_SECONDS:
                    _transfer(self._waiting, self._replies)
                    since = now
            _transfer(self._waiting, self._replies)

    def _receive(self, size: int) -> None:
        _truncate(self._jobs)
        while size:
            moved = self._move(self._requests, self._jobs, size)
            if not moved:
                raise SystemExit(0)
            size -= moved
        self._wipe()

    def _move(self, source: int, target: int, most: int = 1 << 16) -> int:
        """Move the bytes that can be read at once, and return their number."""
        moved = os.readv(source, [self._buffer[:most]])
        write_all(target, self._buffer[:moved])
        self._used = max(self._used, moved)
        return moved

    def _wipe(self) -> None:
        self._buffer[: self._used] = bytes(self._used)
        self._used = 0

    def _size(self) -> tuple[float, int]:
        """Resident MiB of the server, and its lowest free descriptor: if either grows, the server leaks."""
        pages = int(os.pread(self._memory, 100, 0).split()[1])
        free = os.dup(self._scratch)
        os.close(free)
        return round(pages * PAGE / 2**20, 2), free

    def _run_job(self, job: dict[str, Any], start: int, limits: dict[str, Any]) -> tuple[list[dict[str, Any]], Usage]:
        """Run one child for all inputs, in mode `stdin` one after another for one each; their exit records."""
        is_stdin = job["mode"] == "stdin"
        # At worst JSON doubles every backslash and quote of a value.
        max_bytes = 4096 if is_stdin else job["inputs"] * (2 * limits["output_kb"] * 1024 + 4096) + 1024
        used = Usage()
        ends: list[dict[str, Any]] = []
        for number in range(job["inputs"] if is_stdin else 1):
            cpu_left, wall_left = limits["cpu_seconds"] - used.cpu, limits["wall_seconds"] - used.wall
            if cpu_left <= 0 or wall_left <= 0:
                ends.append(_exit_record("not_reached"))
                continue
            waiting_left = WAITING * limits["wall_seconds"] - used.waited
            left = {
                **limits,
                "cpu_seconds": max(1, round(cpu_left)),
                "wall_seconds": wall_left,
                "waiting_seconds": waiting_left,
            }
            captures = [PipeCapture(max_bytes, "tampered", self._answers)]
            captures += [PipeCapture(limits["output_kb"] * 1024, "output_limit", self._outputs)] if is_stdin else []
            ends.append(self._spawn((self._jobs, start, job["size"], number), left, captures, used))
        return ends, used

    def _spawn(
        self, location: tuple[int, int, int, int], limits: dict[str, Any], captures: list[PipeCapture], used: Usage
    ) -> dict[str, Any]:
        """Run one child to its end, add its usage to `used`, and return its exit record."""
        pipes = [os.pipe() for _ in captures]
        outer = {pipe[0]: capture for pipe, capture in zip(pipes, captures, strict=True)}
        oom_kills, forked = self._oom_kills.count(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_child(location, limits, self._rlimits, [pipe[1] for pipe in pipes], self._uid)
        for pipe in pipes:
            os.close(pipe[1])
        try:
            cause, status, usage = self._watch(pid, outer, captures[0], limits)
        finally:
            for fd in outer:
                os.close(fd)
        # Without a start record the program never began: the child was parsing its inputs, or failed in code of ours.
        begun, parse_cpu = self._start_record(captures[0]) or (0.0, 0.0)
        cpu = usage.cpu - parse_cpu
        out_of_cpu = cpu >= limits["cpu_seconds"] - 0.1
        if not begun and (cause == "time_limit" or (os.WIFSIGNALED(status) and usage.cpu >= PARSE_CPU_SECONDS - 0.1)):
            cause = "unread"
        elif not begun and not cause and not os.WIFSIGNALED(status):
            raise SystemExit("a child could not drop its rights or set its limits")
        used.add(cpu, usage.peak, time.monotonic() - (begun or forked) - usage.waited, usage.waited)
        out_of_memory = self._oom_kills.count() > oom_kills
        return _exit_record(cause, status, out_of_cpu, out_of_memory, *(capture.size for capture in captures))

    def _start_record(self, answers: PipeCapture) -> tuple[float, float] | None:
        """When the program of a child began, and the CPU time that the child had used by then; None if it has not begun."""
        if answers.size < START_RECORD.size:
            return None
        # The file holds what all children of the job sent, this one's last. Only its first bytes count: they are written before
        # the program runs, so that it cannot forge them.
        record = os.pread(self._answers, START_RECORD.size, os.lseek(self._answers, 0, os.SEEK_CUR) - answers.size)
        begun, cpu = START_RECORD.unpack(record)
        return begun, cpu

    def _watch(
        self, pid: int, outer: dict[int, PipeCapture], answers: PipeCapture, limits: dict[str, Any]
    ) -> tuple[str, int, Usage]:
        """Collect what the child writes until it exits, overflows or is out of time; then kill every process."""
        # The pidfd becomes readable when the child exits; on requests only a hang-up of the host is reported.
        exited = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(exited, select.POLLIN)
        poll.register(self._requests, 0)
        cause, running, begun, waited = "", True, None, 0.0
        deadline, wall = time.monotonic() + PARSE_TIMEOUT_S, limits["wall_seconds"]
        try:
            # Only exit and hang-up are polled at first: output of a quick child is collected once, after its exit.
            poll.poll(min(FIRST_POLL_MS, wall * 1000))
            for fd in outer:
                poll.register(fd, select.POLLIN)
            while running and not cause:
                left = deadline + waited - time.monotonic()
                if left <= 0:
                    # That other work keeps the cores busy is no fault of the program.
                    waited = min(seconds_without_core(pid), limits["waiting_seconds"])
                    left = deadline + waited - time.monotonic()
                cause = "" if left > 0 else "time_limit"
                for fd, event in poll.poll(max(0.0, left) * 1000):
                    if fd == self._requests:
                        if event & (select.POLLHUP | select.POLLERR):
                            raise SystemExit(0)
                    elif fd == exited:
                        running = False
                    elif not self._collect(fd, outer[fd]):
                        cause = outer[fd].overflow if outer[fd].size > outer[fd].max_bytes else cause
                        poll.unregister(fd)
                if begun is None and (begun := self._start_record(answers)):
                    # Never later than now, whatever the child has written.
                    deadline = min(begun[0], time.monotonic()) + wall
        finally:
            os.close(exited)
            status, usage = kill_and_reap_all(pid)
        usage.waited = waited
        for fd, capture in outer.items():
            while not cause and self._collect(fd, capture):
                pass
            cause = cause or (capture.overflow if capture.size > capture.max_bytes else "")
        self._wipe()
        return cause, status, usage

    def _collect(self, fd: int, capture: PipeCapture) -> bool:
        """Move what a pipe has to its file; False at the end of the pipe, or once there is more than allowed."""
        moved = self._move(fd, capture.file)
        capture.size += moved
        return bool(moved) and capture.size <= capture.max_bytes

    def _clean_up(self) -> bool:
        """Empty the scratch mount; False if something is left: then the host replaces this container."""
        # Files are counted and not listed: their names would stay in memory, where the next program could find them.
        if os.fstatvfs(self._scratch).f_ffree != self._free:
            pid = os.fork()
            if pid == 0:
                remove_leftovers(self._scratch, self._uid)
            kill_and_reap_all(pid, at_once=False)
        # The time of the last change must tell the next program nothing.
        os.utime(self._scratch, (0, 0))
        return os.fstatvfs(self._scratch).f_ffree == self._free


def _transfer(source: int, target: int) -> None:
    """Move all of a memory file to another descriptor, inside the kernel."""
    size, done = os.lseek(source, 0, os.SEEK_END), 0
    while done < size:
        done += os.sendfile(target, source, done, size - done)
    _truncate(source)


def _truncate(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)


def _exit_record(
    cause: str, status: int = 0, out_of_cpu: bool = False, out_of_memory: bool = False, answers: int = 0, output: int = 0
) -> dict[str, Any]:
    """A `sandbox.host.exit_status.ChildExit` as data, with sizes in place of answers and output."""
    flags = {"out_of_cpu": out_of_cpu, "out_of_memory": out_of_memory}
    return {"cause": cause, "status": status, **flags, "answers": answers, "output": output}


def start_server() -> tuple[int, int, int]:
    """Set up what fork server and kernel have in common: descriptors, /etc/passwd, limits, imports.

    Returns:
        Descriptors for requests and replies, away from the standard streams, and the uid for programs.
    """
    refuse_outside()
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    # The C library creates named semaphores in /dev/shm: in the scratch folder they are counted and removed.
    with contextlib.suppress(FileExistsError):
        os.symlink(SCRATCH, "/dev/shm")  # noqa: S108
    uid = draw_uid()
    # The image's /etc/passwd is a link to this file; only the server can write there.
    with open("/run/passwd", "w") as file:
        file.write(f"root:x:0:0::/:\nnobody:x:{uid}:{NOBODY_GID}::{SCRATCH}:\n")
    # A child closes all descriptors up to this limit; its own limit is lower.
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_SERVER_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for name in PRELOADED.split():
        importlib.import_module(name)
    exec_filter()
    return requests, replies, uid


def main() -> None:
    """Warm up, serve."""
    requests, replies, uid = start_server()
    with open(os.devnull, "wb", buffering=0) as null:
        for _ in range(WARM_UP_RUNS):
            run_function(WARM_UP, [prepare_arguments(WARM_UP_INPUT)], 1024, lambda reply: write_frame(null.fileno(), reply))
    # The warm-up program, which no other program may find.
    del sys.modules["solution"]
    # A collection in a child would write to the header of every object, and so copy every page of the server.
    gc.collect()
    gc.freeze()
    ForkServer(requests, replies, uid).serve()


if __name__ == "__main__":
    main()
