"""A context as the interpreter's server sees it: its process, if it has one, the cell in it and the cells that wait.

Law: what a context sends is relayed as its own words and never obeyed; one cell's words have a limit. A context whose
process ends, or will not stop, gets a new one for its next cell. Stdlib only: this file lies in the container.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import functools
import json
import os
import selectors
import signal
import struct
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.guest.fork_server import OOM_COUNTERS
from sandbox.interpreter.guest.cell_execution import CellContext, run_unprivileged

GRACE_SECONDS = 2.0
"""How long a cell may go on after its interrupt; then its process is killed."""
LINGER_SECONDS = 0.02
"""How long the beginning of a line waits for the line's end before it is relayed."""
READ_BYTES = 1 << 16
"""Bytes read at once."""
FOREVER = float("inf")
_ROOM_FOR_ERRORS = 1 << 20

SendFrame = Callable[..., None]
"""Sends the host a frame: call, kind and what belongs to the kind."""


@dataclass
class KernelSettings:
    """What all contexts of a sandbox have in common."""

    home: str
    """Where they start, and where relative paths of files begin."""
    envs: dict[str, str]
    """Environment variables beyond those of the container."""
    limits: dict[str, Any]
    """`sandbox.runner.Limits` as data."""
    user: int
    """Uid of the code."""


@dataclass
class _OutputStream:
    """One standard stream."""

    name: str
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    held: bytearray = field(default_factory=bytearray)
    """What was read and not relayed yet."""


class ContextProcess:
    """Where the process of one context sits."""

    def __init__(
        self,
        name: str,
        cwd: str,
        settings: KernelSettings,
        loop: selectors.BaseSelector,
        say: SendFrame,
        sweep: Callable[[], None],
    ) -> None:
        self.name, self.cwd = name, cwd
        self.pid = 0
        """Its process; 0 while there is none."""
        self.alarm = FOREVER
        """When `ring` is due."""
        self._settings, self._loop, self._say, self._sweep = settings, loop, say, sweep
        self._room = settings.limits["output_kb"] * 1024
        self._cells: deque[Any] = deque()
        self._now: Any = None
        self._count = 0
        self._lost = ""
        self._clear()

    def _clear(self) -> None:
        self._unsent = b""
        self._said = bytearray()
        self._outputs: dict[int, _OutputStream] = {}
        self._requests = self._replies = -1

    # --- cells ------------------------------------------------------------------------------------------------------

    def take(self, request: dict[str, Any]) -> None:
        """Run the cell of a request once those before it are done."""
        self._cells.append(request)
        if self._now is None:
            self._next()

    def interrupt(self, call: int) -> None:
        """End the cell of a call, or do not begin it."""
        if self._now is not None and self._now["call"] == call:
            self._deadline = time.monotonic()
            self.alarm = self._deadline
        self._cells = deque(item for item in self._cells if item["call"] != call)

    def _next(self) -> None:
        if not self._cells:
            return
        self._now = request = self._cells.popleft()
        self._count += 1
        self._left, self._interrupted, self._oom = self._room, False, _oom_kills()
        seconds = request["with"]["timeout"]
        self._deadline = self.alarm = FOREVER if seconds is None else time.monotonic() + seconds
        self._flush_at = FOREVER
        if self._lost:
            self._say(request["call"], "stderr", text=f"[{self._news(self._lost)}]\n")
            self._lost = ""
        if not self.pid:
            try:
                self._start()
            except OSError as error:
                said = {"name": "ProcessDied", "value": f"Context {self.name} has no process: {error}.", "traceback": ""}
                self._say(request["call"], "error", said=said)
                self._finish("died", kept=False)
                return
        self._tell({"code": request["with"]["code"], "envs": request["with"]["envs"], "name": f"<cell {self._count}>"})

    def _tell(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._unsent += struct.pack("!I", len(body)) + body
        self._push()

    def _push(self) -> None:
        """Send what the process takes; it may be one that does not read, so never wait for it."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._requests, self._unsent) :]
        waiting = self._requests in self._loop.get_map()
        if self._unsent and not waiting:
            self._loop.register(self._requests, selectors.EVENT_WRITE, self._push)
        elif waiting and not self._unsent:
            self._loop.unregister(self._requests)

    def _finish(self, ended: str, *, kept: bool) -> None:
        """End the call of a cell and begin the next."""
        self._say(self._now["call"], "done", value={"count": self._count, "ended": ended, "kept": kept})
        self._now = None
        self.alarm = FOREVER
        self._next()

    def _drain(self) -> None:
        """Relay what is left of a cell's output: as much as there is now, for a thread may go on writing for ever."""
        for fd, output in self._outputs.items():
            size = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
            output.held += os.read(fd, size) if size else b""
            self._flush(output, final=True)

    # --- the process ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        requests, self._requests = os.pipe2(os.O_CLOEXEC)
        self._replies, replies = os.pipe2(os.O_CLOEXEC)
        stdout, stdout_w = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_w = os.pipe2(os.O_CLOEXEC)
        theirs = (stdout_w, stderr_w, replies, requests)
        self._outputs = {stdout: _OutputStream("stdout"), stderr: _OutputStream("stderr")}
        try:
            pid = os.fork()
        except OSError:
            self._let_go(*theirs)
            raise
        if pid == 0:
            settings = self._settings
            run_unprivileged(
                (0, *theirs), settings.limits, settings.user, lambda: CellContext(self.cwd, settings.envs, self._room).serve()
            )
        for fd in theirs:
            os.close(fd)
        self.pid = pid
        os.set_blocking(self._requests, False)
        self._loop.register(self._replies, selectors.EVENT_READ, self._hear)
        for fd, output in self._outputs.items():
            self._loop.register(fd, selectors.EVENT_READ, functools.partial(self._read, fd, output))

    def _let_go(self, *more: int) -> None:
        for fd in (self._requests, self._replies, *self._outputs, *more):
            with contextlib.suppress(KeyError):
                self._loop.unregister(fd)
            os.close(fd)
        self._clear()

    def died(self, status: int, ended: str) -> None:
        """Take note that the process is no more, and with it the cell in it and all that code has started."""
        self.pid = 0
        self._sweep()
        self._drain()
        self._let_go()
        cause = self._cause(status)
        if self._now is None:
            self._lost = "" if ended == "killed" else cause
            return
        if self._interrupted:
            ended = "timeout"
        elif ended == "died":
            self._say(self._now["call"], "error", said={"name": "ProcessDied", "value": self._news(cause), "traceback": ""})
        self._finish(ended, kept=False)

    def _news(self, cause: str) -> str:
        return f"The process of context {self.name} ended: {cause}. Its variables are lost; the next cell starts afresh."

    def _cause(self, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and _oom_kills() > self._oom:
            return f"the sandbox was out of memory ({self._settings.limits['memory_mb']} MB)"
        return f"killed by signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"

    def notify(self) -> None:
        """Do what time asks for: relay the beginning of a line, interrupt the cell, kill the process."""
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = FOREVER
            for output in self._outputs.values():
                self._flush(output)
        if now >= self._deadline:
            self._signal(signal.SIGKILL if self._interrupted else signal.SIGINT)
            self._deadline = FOREVER if self._interrupted else now + GRACE_SECONDS
            self._interrupted = True
        self.alarm = min(self._flush_at, self._deadline)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Begin none of the cells that wait."""
        for request in self._cells:
            self._say(request["call"], "done", refused="no_context", why=f"context {self.name} was removed")
        self._cells.clear()

    # --- what it says -----------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        part = os.read(self._replies, READ_BYTES)
        self._said += part
        while len(self._said) >= 4:
            size = struct.unpack_from("!I", self._said)[0]
            if size > self._room + _ROOM_FOR_ERRORS:
                part = b""
                break
            if len(self._said) < 4 + size:
                break
            body = bytes(self._said[4 : 4 + size])
            del self._said[: 4 + size]
            with contextlib.suppress(ValueError, RecursionError, TypeError):
                self._relay(json.loads(body), size)
        if not part:
            # It closed its line or speaks nonsense. Whoever does that has ended.
            self._loop.unregister(self._replies)
            self._signal(signal.SIGKILL)

    def _relay(self, message: Any, size: int) -> None:
        if self._now is None or not isinstance(message, dict):
            return
        kind = message.pop("kind", "")
        if kind == "result":
            self._spend(size, kind, said=message)
        elif kind in ("done", "error"):
            self._drain()
            if kind == "error":
                self._say(self._now["call"], kind, said=message)
            if self._interrupted:
                self._sweep()
                self._tell({"do": "reap"})
            self._finish("timeout" if self._interrupted else "ok", kept=True)

    def _read(self, fd: int, output: _OutputStream) -> None:
        part = os.read(fd, READ_BYTES)
        output.held += part
        if output.held.endswith(b"\n") or len(output.held) >= READ_BYTES:
            self._flush(output)
        elif part:
            self._flush_at = min(self._flush_at, time.monotonic() + LINGER_SECONDS)
            self.alarm = min(self.alarm, self._flush_at)
        else:
            self._loop.unregister(fd)

    def _flush(self, output: _OutputStream, *, final: bool = False) -> None:
        text = output.decoder.decode(bytes(output.held), final)
        output.held.clear()
        if self._now is None:
            # What a thread prints between two cells belongs to none.
            return
        fits = text[: max(0, self._left)]
        if fits:
            self._spend(len(fits), output.name, text=fits)
        if len(fits) < len(text):
            self._overflow()

    def _spend(self, size: int, kind: str, **more: object) -> None:
        if size > self._left:
            self._overflow()
            return
        self._left -= size
        self._say(self._now["call"], kind, **more)

    def _overflow(self) -> None:
        if self._left >= 0:
            self._left = -1
            self._say(self._now["call"], "stderr", text=f"[output beyond {self._room >> 10} KiB was dropped]\n")


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory so far."""
    path = next(path for path in OOM_COUNTERS if os.path.exists(path))
    with open(path) as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
