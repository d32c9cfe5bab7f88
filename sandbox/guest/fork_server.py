"""The program that runs inside the container, as its pid 1: a fork server that plays jobs one after another.

Law: it refuses to start outside its container, deletes only through a descriptor of its own scratch mount, and never
sees an expected answer. One fresh child a job (mode `stdin`: one an input), as a user of the container's own with limits; when
the child has answered, died or run out of time, every process in the container is killed. Every child is a copy of the
server, so the server reads no program, input or answer: they pass through one buffer, which is wiped. Stdlib only. It does not
judge.

Frames on stdin and stdout: 4 bytes length, then JSON. In: `{limits, jobs}`, then the jobs themselves, each as long as its frame
says. Out: `{protocol, server}` once, then for each job `{ends, seconds, cpu_seconds, peak_mb, clean, server}`, then what its
children answered and what they printed; `server` says how large the server itself is. A child answers through a pipe of its
own, so nothing that a program prints is taken for an answer. Its first words there say when the program began: limits of time
are the program's, and do not count what was done for it before.

Speed is a matter of pages: those that server or child write to after a fork are copied, which takes longer than what is done
with them. So both do little, what a child does first has been done here before, and replies go out together.
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
from sandbox.guest.leftovers import Usage, kill_and_reap_all, remove_leftovers

PROTOCOL = 3
"""Number of the agreement with the host; changes with the frames."""
CONTAINER_FLAG = "GASP_INSIDE"
"""Environment flag that only our containers set."""
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", os.devnull)
"""Where the kernel counts the processes that it kills for memory: control groups version 2, version 1, nowhere."""
PAGE = os.sysconf("SC_PAGE_SIZE")
PARSE_TIMEOUT_S = 3 * PARSE_CPU_SECONDS
"""Wall-clock seconds until a child has read its inputs, which it is given `PARSE_CPU_SECONDS` of CPU time for."""
REPLY_BATCH_SECONDS = 0.02
"""How long a reply may wait for others to go out with."""
FIRST_POLL_MS = 5
"""How long a child is left in peace: what it has said by then is taken when it has ended, without a wake-up for every word."""
WARM_UP = {"source": "def f(x): return x", "entry": "f"}
"""A job of our own."""
WARM_UP_INPUT = "[1, 'a', 2.5]"
"""Its input."""
WARM_UP_RUNS = 50
"""How often it is played, so that the interpreter has made of the code what it makes of code that runs often."""
PRELOADED = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime decimal"
    " enum fractions functools hashlib heapq io itertools json math numbers operator queue random re statistics string"
    " struct textwrap threading time traceback types typing unicodedata zlib"
)
"""Imported once here, so that programs find them warm."""


def refuse_outside() -> None:
    """Stop unless this is pid 1 of a container of ours: the server kills every process it can see."""
    inside = os.getpid() == 1 and os.path.exists("/.dockerenv") and os.environ.get(CONTAINER_FLAG) == "1"
    if not inside:
        sys.stderr.write(
            "fork_server.py runs only as pid 1 of a GASP sandbox container; use sandbox.host.docker_runner.DockerRunner.\n"
        )
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


@dataclass
class PipeCapture:
    """What one pipe of a child has brought."""

    room: int
    """Bytes that it may bring."""
    overflow: str
    """What more than that means."""
    kept: int
    """Where it is kept, unread: a nameless file."""
    size: int = 0
    """Bytes so far."""


class ForkServer:
    """Serves frames until the host goes away."""

    def __init__(self, requests: int, replies: int, user: int) -> None:
        self._requests = requests
        self._replies = replies
        self._user = user
        self._scratch = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.fstat(self._scratch).st_dev == os.stat("/").st_dev:
            raise SystemExit("scratch folder is not a mount of its own")
        self._free = os.fstatvfs(self._scratch).f_ffree
        if not self._free:
            raise SystemExit("the scratch folder does not count its files")
        os.utime(self._scratch, (0, 0))
        self._memory = os.open("/proc/self/statm", os.O_RDONLY)
        self._oom = os.open(next(path for path in OOM_COUNTERS if os.path.exists(path)), os.O_RDONLY)
        self._jobs, self._answers, self._outputs, self._waiting = (
            os.memfd_create(name) for name in ("jobs", "answers", "outputs", "waiting")
        )
        self._bounds: Rlimits = []
        self._buffer = memoryview(bytearray(1 << 16))
        self._used = 0

    def serve(self) -> None:
        """Answer requests, job by job."""
        write_frame(self._replies, {"protocol": PROTOCOL, "server": self._size()})
        while (request := read_frame(self._requests)) is not None:
            self._receive(sum(job["size"] for job in request["jobs"]))
            start, since = 0, time.monotonic()
            self._bounds = rlimits_of(request["limits"])
            for job in request["jobs"]:
                began = time.monotonic()
                ends, usage = self._play(job, start, request["limits"])
                start += job["size"]
                reply = {"ends": ends, "cpu_seconds": round(usage.cpu, 6), "peak_mb": round(usage.peak / 1024, 2)}
                reply |= {"clean": self._tidy(), "server": self._size()}
                now = time.monotonic()
                write_frame(self._waiting, reply | {"seconds": round(now - began, 6)})
                for kept in (self._answers, self._outputs):
                    _transfer(kept, self._waiting)
                if now - since > REPLY_BATCH_SECONDS:
                    _transfer(self._waiting, self._replies)
                    since = now
            _transfer(self._waiting, self._replies)

    def _receive(self, size: int) -> None:
        _truncate(self._jobs)
        while size:
            taken = self._move(self._requests, self._jobs, size)
            if not taken:
                raise SystemExit(0)
            size -= taken
        self._wipe()

    def _move(self, source: int, target: int, most: int = 1 << 16) -> int:
        """Move what can be read at once; how many bytes that was."""
        taken = os.readv(source, [self._buffer[:most]])
        write_all(target, self._buffer[:taken])
        self._used = max(self._used, taken)
        return taken

    def _wipe(self) -> None:
        self._buffer[: self._used] = bytes(self._used)
        self._used = 0

    def _size(self) -> tuple[float, int]:
        """Resident MiB of the server, and its lowest free descriptor: both stay, or it leaks."""
        pages = int(os.pread(self._memory, 100, 0).split()[1])
        free = os.dup(self._scratch)
        os.close(free)
        return round(pages * PAGE / 2**20, 2), free

    def _oom_kills(self) -> int:
        lines = os.pread(self._oom, 1000, 0).decode().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def _play(self, job: dict[str, Any], start: int, limits: dict[str, Any]) -> tuple[list[dict[str, Any]], Usage]:
        """One child with all inputs, or in mode `stdin` one after another with one each; how they ended."""
        prints = job["mode"] == "stdin"
        # JSON doubles every backslash and quote of a value at worst.
        room = 4096 if prints else job["inputs"] * (2 * limits["output_kb"] * 1024 + 4096) + 1024
        used = Usage()
        ends: list[dict[str, Any]] = []
        for number in range(job["inputs"] if prints else 1):
            cpu_left, wall_left = limits["cpu_seconds"] - used.cpu, limits["wall_seconds"] - used.wall
            if cpu_left <= 0 or wall_left <= 0:
                ends.append(_exit_record("not_reached"))
                continue
            now = {**limits, "cpu_seconds": max(1, round(cpu_left)), "wall_seconds": wall_left}
            place = (self._jobs, start, job["size"], number)
            heard = [PipeCapture(room, "tampered", self._answers)]
            heard += [PipeCapture(limits["output_kb"] * 1024, "output_limit", self._outputs)] if prints else []
            ends.append(self._spawn(place, now, heard, used))
        return ends, used

    def _spawn(
        self, place: tuple[int, int, int, int], limits: dict[str, Any], heard: list[PipeCapture], used: Usage
    ) -> dict[str, Any]:
        pipes = [os.pipe() for _ in heard]
        outer = {pipe[0]: ear for pipe, ear in zip(pipes, heard, strict=True)}
        oom_kills, forked = self._oom_kills(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_child(place, limits, self._bounds, [pipe[1] for pipe in pipes], self._user)
        for pipe in pipes:
            os.close(pipe[1])
        try:
            cause, status, usage = self._watch(pid, outer, heard[0], limits["wall_seconds"])
        finally:
            for fd in outer:
                os.close(fd)
        begun, read_cpu = self._begun(heard[0]) or (0.0, 0.0)
        cpu = usage.cpu - read_cpu
        out_of_cpu = cpu >= limits["cpu_seconds"] - 0.1
        if not begun and (cause == "time_limit" or (os.WIFSIGNALED(status) and usage.cpu >= PARSE_CPU_SECONDS - 0.1)):
            cause = "unread"
        elif not begun and not cause and not os.WIFSIGNALED(status):
            raise SystemExit("a child could not drop its rights or set its limits")
        used.add(cpu, usage.peak, time.monotonic() - (begun or forked))
        return _exit_record(cause, status, out_of_cpu, self._oom_kills() > oom_kills, *(ear.size for ear in heard))

    def _begun(self, ear: PipeCapture) -> tuple[float, float] | None:
        """When the program of a child began, and what CPU time the child had used by then; None if it has not said."""
        if ear.size < START_RECORD.size:
            return None
        said = os.pread(self._answers, START_RECORD.size, os.lseek(self._answers, 0, os.SEEK_CUR) - ear.size)
        begun, cpu = START_RECORD.unpack(said)
        return begun, cpu

    def _watch(self, pid: int, outer: dict[int, PipeCapture], answers: PipeCapture, wall: float) -> tuple[str, int, Usage]:
        """Collect what the child writes until it exits, overflows or is out of time; then leave no process behind."""
        exited = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(exited, select.POLLIN)
        poll.register(self._requests, 0)
        cause, running, begun = "", True, None
        deadline = time.monotonic() + PARSE_TIMEOUT_S
        try:
            poll.poll(min(FIRST_POLL_MS, wall * 1000))
            for fd in outer:
                poll.register(fd, select.POLLIN)
            while running and not cause:
                left = deadline - time.monotonic()
                cause = "" if left > 0 else "time_limit"
                for fd, event in poll.poll(max(0.0, left) * 1000):
                    if fd == self._requests:
                        if event & (select.POLLHUP | select.POLLERR):
                            raise SystemExit(0)
                    elif fd == exited:
                        running = False
                    elif not self._hear(fd, outer[fd]):
                        cause = outer[fd].overflow if outer[fd].size > outer[fd].room else cause
                        poll.unregister(fd)
                if begun is None and (begun := self._begun(answers)):
                    deadline = min(begun[0], time.monotonic()) + wall
        finally:
            os.close(exited)
            status, usage = kill_and_reap_all(pid)
        for fd, ear in outer.items():
            while not cause and self._hear(fd, ear):
                pass
            cause = cause or (ear.overflow if ear.size > ear.room else "")
        self._wipe()
        return cause, status, usage

    def _hear(self, fd: int, ear: PipeCapture) -> bool:
        """Take what a pipe has; False at its end or when that was more than there is room for."""
        taken = self._move(fd, ear.kept)
        ear.size += taken
        return bool(taken) and ear.size <= ear.room

    def _tidy(self) -> bool:
        """Empty the scratch mount; False if something is left, then the host replaces this container."""
        # Counted and not listed: names of files would stay in memory, for the next program to find.
        if os.fstatvfs(self._scratch).f_ffree != self._free:
            pid = os.fork()
            if pid == 0:
                remove_leftovers(self._scratch, self._user)
            kill_and_reap_all(pid, at_once=False)
        # When the folder was last touched is no message to the next program.
        os.utime(self._scratch, (0, 0))
        return os.fstatvfs(self._scratch).f_ffree == self._free


def _transfer(source: int, target: int) -> None:
    """Move all of a nameless file on, which is not read for that."""
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
    """How a child ended, as `sandbox.host.exit_status` has it, but for what it said: only how long that is."""
    flags = {"out_of_cpu": out_of_cpu, "out_of_memory": out_of_memory}
    return {"cause": cause, "status": status, **flags, "answers": answers, "output": output}


def start_server() -> tuple[int, int, int]:
    """What both servers begin with: the protocol's descriptors, away from the standard streams, and the programs' user.

    Returns:
        Descriptors for requests and replies, and the uid for programs.
    """
    refuse_outside()
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nothing, fd)
    os.close(nothing)
    # The C library keeps named semaphores in /dev/shm: in the scratch folder they are counted and removed.
    with contextlib.suppress(FileExistsError):
        os.symlink(SCRATCH, "/dev/shm")  # noqa: S108
    user = draw_uid()
    # Where the image's /etc/passwd points to; only the server can write there.
    with open("/run/passwd", "w") as file:
        file.write(f"root:x:0:0::/:\nnobody:x:{user}:{NOBODY_GID}::{SCRATCH}:\n")
    # A child closes all descriptors up to here; its own limit is another.
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_SERVER_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for name in PRELOADED.split():
        importlib.import_module(name)
    exec_filter()
    return requests, replies, user


def main() -> None:
    """Warm up, serve."""
    requests, replies, user = start_server()
    with open(os.devnull, "wb", buffering=0) as nothing:
        for _ in range(WARM_UP_RUNS):
            run_function(WARM_UP, [prepare_arguments(WARM_UP_INPUT)], 1024, lambda reply: write_frame(nothing.fileno(), reply))
    del sys.modules["solution"]
    gc.collect()
    gc.freeze()
    ForkServer(requests, replies, user).serve()


if __name__ == "__main__":
    main()
