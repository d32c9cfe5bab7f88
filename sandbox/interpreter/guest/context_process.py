"""A context as the kernel sees it: its process, if it has one, the running cell, and the cells that wait.

Guarantees: what a context sends is relayed as the cell's output and never obeyed, up to a limit per cell. A context whose
process exits, or cannot be interrupted, gets a new process for its next cell.
Standard library only: this file is copied into the image.
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

from sandbox.guest.oom_kills import OomKills
from sandbox.interpreter.guest.cell_execution import CellContext, run_unprivileged

GRACE_SECONDS = 2.0
"""A cell that runs for longer after its interrupt is killed with its process."""
LINGER_SECONDS = 0.02
"""An incomplete line is relayed after so many seconds."""
READ_BYTES = 1 << 16
"""Most bytes read at once."""
FOREVER = float("inf")
_ROOM_FOR_ERRORS = 1 << 20

SendFrame = Callable[..., None]
"""Sends a frame to the host: call, kind, and the fields of that kind."""


@dataclass
class KernelSettings:
    """Settings of all contexts of a sandbox."""

    home: str
    """Working directory, unless a context has its own; the start of relative paths."""
    envs: dict[str, str]
    """Environment variables beyond those of the container."""
    limits: dict[str, Any]
    """`sandbox.runner.Limits` as data."""
    uid: int
    """Of the code."""


@dataclass
class _OutputStream:
    """One standard stream."""

    name: str
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    pending: bytearray = field(default_factory=bytearray)
    """Bytes that were read and not relayed yet."""


class ContextProcess:
    """One context: its queue of cells and, between `_start` and `on_exit`, its process.

    It registers its callbacks with the kernel's selector; `kill_others` kills all processes that the code has started.
    """

    def __init__(
        self,
        name: str,
        cwd: str,
        settings: KernelSettings,
        selector: selectors.BaseSelector,
        send: SendFrame,
        kill_others: Callable[[], None],
        oom_kills: OomKills,
    ) -> None:
        self.name, self.cwd = name, cwd
        self.pid = 0
        """Its process; 0 while there is none."""
        self.due = FOREVER
        """Monotonic time at which `on_timer` must be called."""
        self._settings, self._selector, self._send, self._kill_others = settings, selector, send, kill_others
        self._oom_kills = oom_kills
        self._max_bytes = settings.limits["output_kb"] * 1024
        self._queue: deque[Any] = deque()
        self._cell: Any = None
        self._count = 0
        self._exit_cause = ""
        self._clear()

    def _clear(self) -> None:
        self._unsent = b""
        self._received = bytearray()
        self._outputs: dict[int, _OutputStream] = {}
        self._requests = self._replies = -1

    # --- cells ------------------------------------------------------------------------------------------------------

    def enqueue(self, request: dict[str, Any]) -> None:
        """Run the cell of a request after those before it."""
        self._queue.append(request)
        if self._cell is None:
            self._next()

    def interrupt(self, call: int) -> None:
        """Interrupt the cell of a call, or drop it from the queue."""
        if self._cell is not None and self._cell["call"] == call:
            self._deadline = time.monotonic()
            self.due = self._deadline
        self._queue = deque(request for request in self._queue if request["call"] != call)

    def _next(self) -> None:
        if not self._queue:
            return
        self._cell = request = self._queue.popleft()
        self._count += 1
        self._left, self._interrupted, self._oom_before = self._max_bytes, False, self._oom_kills.count()
        seconds = request["with"]["timeout"]
        self._deadline = self.due = FOREVER if seconds is None else time.monotonic() + seconds
        self._flush_at = FOREVER
        if self._exit_cause:
            self._send(request["call"], "stderr", text=f"[{self._exit_message(self._exit_cause)}]\n")
            self._exit_cause = ""
        if not self.pid:
            try:
                self._start()
            except OSError as error:
                self._send_death(f"Context {self.name} has no process: {error}.")
                self._finish("died", kept=False)
                return
        self._post({"code": request["with"]["code"], "envs": request["with"]["envs"], "name": f"<cell {self._count}>"})

    def _send_death(self, why: str) -> None:
        self._send(self._cell["call"], "error", content={"name": "ProcessDied", "value": why, "traceback": ""})

    def _post(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._unsent += struct.pack("!I", len(body)) + body
        self._push()

    def _push(self) -> None:
        """Write as much as the process's pipe takes; the process may never read, so this never blocks."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._requests, self._unsent) :]
        waiting = self._requests in self._selector.get_map()
        if self._unsent and not waiting:
            self._selector.register(self._requests, selectors.EVENT_WRITE, self._push)
        elif waiting and not self._unsent:
            self._selector.unregister(self._requests)

    def _finish(self, ended: str, *, kept: bool) -> None:
        """End the call of a cell and start the next cell."""
        self._send(self._cell["call"], "done", value={"count": self._count, "ended": ended, "kept": kept})
        self._cell = None
        self.due = FOREVER
        self._next()

    def _drain(self) -> None:
        """Relay the output that is in the pipes now, and no more: a thread may go on writing for ever."""
        for fd, output in self._outputs.items():
            size = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
            output.pending += os.read(fd, size) if size else b""
            self._flush(output, final=True)

    # --- the process ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        requests, self._requests = os.pipe2(os.O_CLOEXEC)
        self._replies, replies = os.pipe2(os.O_CLOEXEC)
        stdout, stdout_w = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_w = os.pipe2(os.O_CLOEXEC)
        child_fds = (stdout_w, stderr_w, replies, requests)
        self._outputs = {stdout: _OutputStream("stdout"), stderr: _OutputStream("stderr")}
        try:
            pid = os.fork()
        except OSError:
            self._close_pipes(*child_fds)
            raise
        if pid == 0:
            settings = self._settings
            run_unprivileged(
                (0, *child_fds),
                settings.limits,
                settings.uid,
                lambda: CellContext(self.cwd, settings.envs, self._max_bytes).run_cells(),
            )
        for fd in child_fds:
            os.close(fd)
        self.pid = pid
        os.set_blocking(self._requests, False)
        self._selector.register(self._replies, selectors.EVENT_READ, self._receive)
        for fd, output in self._outputs.items():
            self._selector.register(fd, selectors.EVENT_READ, functools.partial(self._read, fd, output))

    def _close_pipes(self, *more: int) -> None:
        for fd in (self._requests, self._replies, *self._outputs, *more):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)
        self._clear()

    def on_exit(self, status: int, ended: str) -> None:
        """Handle the exit of the process: end the running cell, and kill all that the code has started."""
        self.pid = 0
        self._kill_others()
        self._drain()
        self._close_pipes()
        cause = self._cause(status)
        if self._cell is None:
            self._exit_cause = "" if ended == "killed" else cause
            return
        if self._interrupted:
            ended = "timeout"
        elif ended == "died":
            self._send_death(self._exit_message(cause))
        self._finish(ended, kept=False)

    def _exit_message(self, cause: str) -> str:
        return f"The process of context {self.name} ended: {cause}. Its variables are lost; the next cell starts afresh."

    def _cause(self, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and self._oom_kills.count() > self._oom_before:
            return f"the sandbox was out of memory ({self._settings.limits['memory_mb']} MB)"
        return f"killed by signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"

    def on_timer(self) -> None:
        """Do what is due: relay an incomplete line, interrupt the cell, kill the process."""
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = FOREVER
            for output in self._outputs.values():
                self._flush(output)
        if now >= self._deadline:
            self._signal(signal.SIGKILL if self._interrupted else signal.SIGINT)
            self._deadline = FOREVER if self._interrupted else now + GRACE_SECONDS
            self._interrupted = True
        self.due = min(self._flush_at, self._deadline)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Refuse the cells that wait."""
        for request in self._queue:
            self._send(request["call"], "done", refused="no_context", why=f"context {self.name} was removed")
        self._queue.clear()

    # --- output -----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        part = os.read(self._replies, READ_BYTES)
        self._received += part
        while len(self._received) >= 4:
            size = struct.unpack_from("!I", self._received)[0]
            if size > self._max_bytes + _ROOM_FOR_ERRORS:
                part = b""
                break
            if len(self._received) < 4 + size:
                break
            body = bytes(self._received[4 : 4 + size])
            del self._received[: 4 + size]
            with contextlib.suppress(ValueError, RecursionError, TypeError):
                self._relay(json.loads(body), size)
        if not part:
            # The process has closed its pipe or sent an oversized frame; no honest one does.
            self._selector.unregister(self._replies)
            self._signal(signal.SIGKILL)

    def _relay(self, message: Any, size: int) -> None:
        if self._cell is None or not isinstance(message, dict):
            return
        kind = message.pop("kind", "")
        if kind == "result":
            self._spend(size, kind, content=message)
        elif kind in ("done", "error"):
            self._drain()
            if kind == "error":
                self._send(self._cell["call"], kind, content=message)
            if self._interrupted:
                self._kill_others()
                # The context's own process stays; it has to reap what it had started, because zombies count against the limit.
                self._post({"do": "reap"})
            self._finish("timeout" if self._interrupted else "ok", kept=True)

    def _read(self, fd: int, output: _OutputStream) -> None:
        part = os.read(fd, READ_BYTES)
        output.pending += part
        if output.pending.endswith(b"\n") or len(output.pending) >= READ_BYTES:
            self._flush(output)
        elif part:
            self._flush_at = min(self._flush_at, time.monotonic() + LINGER_SECONDS)
            self.due = min(self.due, self._flush_at)
        else:
            self._selector.unregister(fd)

    def _flush(self, output: _OutputStream, *, final: bool = False) -> None:
        text = output.decoder.decode(bytes(output.pending), final)
        output.pending.clear()
        if self._cell is None:
            # What a thread prints between two cells belongs to neither.
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
        self._send(self._cell["call"], kind, **more)

    def _overflow(self) -> None:
        if self._left >= 0:
            self._left = -1
            self._send(self._cell["call"], "stderr", text=f"[output beyond {self._max_bytes >> 10} KiB was dropped]\n")
