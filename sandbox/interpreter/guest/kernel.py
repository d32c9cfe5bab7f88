"""The kernel of the interpreter: pid 1 of its container, which manages contexts and relays their output.

Guarantees:
- It refuses to start outside its container, deletes nothing, and exits when the host closes the stream or time is up.
- A context is an unprivileged process with a namespace that stays; what it sends is relayed as its output and never obeyed, up
  to a limit.

Frames on stdin and stdout as in `fork_server.py`. In: first the settings, then `{call, do, with}`. Out: `{call, kind, ...}`;
the frame of kind `done` is the last of its call. Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import json
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sandbox.guest.fork_server import read_frame, start_server, write_frame
from sandbox.guest.oom_kills import OomKills
from sandbox.interpreter.guest.cell_execution import run_unprivileged
from sandbox.interpreter.guest.context_process import FOREVER, READ_BYTES, ContextProcess, KernelSettings
from sandbox.interpreter.guest.file_ops import handle_file_request

LARGEST_REPLY = 16 << 20
"""Most bytes of the reply to a file request."""
DEFAULT_CONTEXT = "default"
"""The context that is always there."""
_MAX_SWEEPS = 50
_SWEEP_PAUSE_S = 0.005


@dataclass
class _FileRequest:
    """A child that performs one file operation."""

    call: int
    pid: int
    deadline: float
    reply: bytearray = field(default_factory=bytearray)


class Kernel:
    """Serves requests until the host closes the stream or the lifetime is over."""

    def __init__(self, requests: int, replies: int, settings: KernelSettings) -> None:
        self._requests, self._replies, self._settings = requests, replies, settings
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ, self._handle_request)
        # A pipe that becomes readable when a child exits: a signal alone would not wake the selector.
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, READ_BYTES))
        self._names = (f"context-{number}" for number in itertools.count(1))
        self._oom_kills = OomKills()
        self._contexts: dict[str, ContextProcess] = {}
        self._file_requests: dict[int, _FileRequest] = {}
        self._exited: list[tuple[ContextProcess, int]] = []
        self._add(DEFAULT_CONTEXT, settings.home)

    def _add(self, name: str, cwd: str) -> None:
        self._contexts[name] = ContextProcess(
            name, cwd, self._settings, self._selector, self._send, self._kill_others, self._oom_kills
        )

    def serve(self) -> NoReturn:
        """Handle events for ever."""
        while True:
            due = min(
                [context.due for context in self._contexts.values()]
                + [request.deadline for request in self._file_requests.values()],
                default=FOREVER,
            )
            timeout = None if due == FOREVER else max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(timeout):
                # An earlier event of this round may have closed this descriptor, and a new file may have its number.
                if self._selector.get_map().get(key.fd) == key:
                    key.data()
            self._reap()
            self._handle_exits()
            self._handle_timers()

    def _send(self, call: int, kind: str, **more: object) -> None:
        write_frame(self._replies, {"call": call, "kind": kind, **more})

    # --- requests ---------------------------------------------------------------------------------------------------

    def _handle_request(self) -> None:
        request = read_frame(self._requests)
        if request is None:
            os._exit(0)
        call, do, arguments = request["call"], request["do"], request["with"]
        if do == "interrupt":
            for context in self._contexts.values():
                context.interrupt(arguments["call"])
        elif do == "lifetime":
            set_lifetime(arguments["seconds"])
            self._send(call, "done", value=None)
        elif do == "contexts":
            self._send(call, "done", value=[[context.name, context.cwd] for context in self._contexts.values()])
        elif do == "create":
            name = next(self._names)
            self._add(name, arguments["cwd"] or self._settings.home)
            self._send(call, "done", value=[name, self._contexts[name].cwd])
        elif "context" in arguments:
            self._handle_context_request(self._contexts.get(arguments["context"]), request)
        else:
            self._start_file_request(request)

    def _handle_context_request(self, context: ContextProcess | None, request: dict[str, Any]) -> None:
        call, do = request["call"], request["do"]
        if context is None:
            self._send(call, "done", refused="no_context", why=f"there is no context {request['with']['context']}")
            return
        if do == "run":
            context.enqueue(request)
            return
        if do == "remove":
            context.close()
        # Exited processes have been reaped already and must not be waited for again.
        self._handle_exits()
        if context.pid:
            os.kill(context.pid, signal.SIGKILL)
            context.on_exit(os.waitpid(context.pid, 0)[1], "killed")
        if do == "remove":
            del self._contexts[context.name]
        self._send(call, "done", value=None)

    # --- file requests ----------------------------------------------------------------------------------------------

    def _start_file_request(self, request: dict[str, Any]) -> None:
        reply, reply_w = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reply)
            os.close(reply_w)
            why = f"no process is left for it ({error}); restart_code_context ends what the code started"
            self._send(request["call"], "done", refused="busy", why=why)
            return
        if pid == 0:
            run_unprivileged(
                (0, 0, 0, reply_w),
                self._settings.limits,
                self._settings.uid,
                lambda: handle_file_request(request, self._settings.home),
            )
        os.close(reply_w)
        self._file_requests[reply] = _FileRequest(request["call"], pid, time.monotonic() + request["seconds"])
        self._selector.register(reply, selectors.EVENT_READ, functools.partial(self._collect, reply))

    def _collect(self, fd: int) -> None:
        request = self._file_requests[fd]
        part = os.read(fd, READ_BYTES)
        request.reply += part
        if part and len(request.reply) <= LARGEST_REPLY:
            return
        self._selector.unregister(fd)
        os.close(fd)
        del self._file_requests[fd]
        try:
            reply = json.loads(request.reply)
        except (ValueError, RecursionError):
            reply = {"refused": "busy", "why": "it took too long, or its process was killed"}
        self._send(request.call, "done", **{name: reply[name] for name in ("value", "refused", "why") if name in reply})

    # --- processes --------------------------------------------------------------------------------------------------

    def _handle_timers(self) -> None:
        now = time.monotonic()
        for context in self._contexts.values():
            if now >= context.due:
                context.on_timer()
        for request in self._file_requests.values():
            if now >= request.deadline:
                request.deadline = FOREVER
                with contextlib.suppress(ProcessLookupError):
                    os.kill(request.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Reap exited children, and orphans that pid 1 inherits."""
        contexts = {context.pid: context for context in self._contexts.values()}
        with contextlib.suppress(ChildProcessError):
            while (exited := os.waitpid(-1, os.WNOHANG))[0]:
                if (context := contexts.get(exited[0])) is not None:
                    self._exited.append((context, exited[1]))

    def _handle_exits(self) -> None:
        while self._exited:
            context, status = self._exited.pop()
            context.on_exit(status, "died")

    def _kill_others(self) -> None:
        """Kill every process but those of contexts and file requests, so that later cells can start processes."""
        for _ in range(_MAX_SWEEPS):
            # Stop all of them before the first is killed: otherwise those that are left start new ones.
            stopped: set[int] = set()
            while running := self._others() - stopped:
                _signal(running, signal.SIGSTOP)
                stopped |= running
            if not stopped:
                return
            _signal(stopped, signal.SIGKILL)
            time.sleep(_SWEEP_PAUSE_S)
        # Processes start faster than this loop stops them: kill everything, and every context starts afresh.
        os.kill(-1, signal.SIGKILL)

    def _others(self) -> set[int]:
        """Running processes that the code has started."""
        self._reap()
        ours = {os.getpid(), *(context.pid for context in self._contexts.values())}
        ours |= {request.pid for request in self._file_requests.values()}
        running = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The process's name, in brackets, may itself hold brackets; after it comes the state, Z or X for a dead one.
                if file.read().rpartition(b")")[2].split()[0] not in b"ZX":
                    running.add(int(name))
        return running - ours


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def set_lifetime(seconds: float) -> None:
    """Exit after so many seconds, whatever this process does then; the container ends with it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Warm up, serve."""
    requests, replies, uid = start_server()
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    # As in the fork server: a collection in a context would copy every page of the kernel.
    gc.collect()
    gc.freeze()
    write_frame(replies, {"ready": sys.version.split()[0]})
    settings = read_frame(requests)
    if settings is None:
        return
    set_lifetime(settings.pop("seconds"))
    Kernel(requests, replies, KernelSettings(**settings, uid=uid)).serve()


if __name__ == "__main__":
    main()
