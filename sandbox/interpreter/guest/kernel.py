"""The program that runs inside an interpreter's container, as its pid 1: it keeps contexts alive and relays what they say.

Law: it refuses to start outside its container, deletes nothing, and ends when the host hangs up or its lifetime is over.
A context is a process of uid 65534 that keeps a namespace; whatever it sends is relayed as its own words and never
obeyed, and never more than a limit. Stdlib only. It does not judge.

Frames on stdin and stdout as in `fork_server.py`. In: once the settings, then `{call, do, with}`. Out: `{call, kind, ...}`; the
frame of kind `done` is the last of its call.
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
from sandbox.interpreter.guest.cell_execution import run_unprivileged
from sandbox.interpreter.guest.context_process import FOREVER, READ_BYTES, ContextProcess, KernelSettings
from sandbox.interpreter.guest.file_ops import handle_file_request

LARGEST_REPLY = 16 << 20
"""Bytes of an errand's reply."""
DEFAULT_CONTEXT = "default"
"""The context that is always there."""
_MAX_SWEEPS = 50
_SWEEP_PAUSE_S = 0.005


@dataclass
class _FileRequest:
    """A child that does one thing with files."""

    call: int
    pid: int
    alarm: float
    reply: bytearray = field(default_factory=bytearray)


class Kernel:
    """Serves frames until the host goes away or the lifetime is over."""

    def __init__(self, requests: int, replies: int, settings: KernelSettings) -> None:
        self._requests, self._replies, self._settings = requests, replies, settings
        self._loop = selectors.DefaultSelector()
        self._loop.register(requests, selectors.EVENT_READ, self._obey)
        # A pipe that becomes readable when a child ends: a signal alone would not wake the selector.
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._loop.register(woken, selectors.EVENT_READ, lambda: os.read(woken, READ_BYTES))
        self._names = (f"context-{number}" for number in itertools.count(1))
        self._seats: dict[str, ContextProcess] = {}
        self._errands: dict[int, _FileRequest] = {}
        self._gone: list[tuple[ContextProcess, int]] = []
        self._add(DEFAULT_CONTEXT, settings.home)

    def _add(self, name: str, cwd: str) -> None:
        self._seats[name] = ContextProcess(name, cwd, self._settings, self._loop, self._say, self._sweep)

    def serve(self) -> NoReturn:
        """Answer requests for ever."""
        while True:
            alarm = min(
                [seat.alarm for seat in self._seats.values()] + [its.alarm for its in self._errands.values()], default=FOREVER
            )
            patience = None if alarm == FOREVER else max(0.0, alarm - time.monotonic())
            for key, _ in self._loop.select(patience):
                # An earlier one of this round may have closed it, and another file may have its number by now.
                if self._loop.get_map().get(key.fd) == key:
                    key.data()
            self._reap()
            self._bury()
            self._ring()

    def _say(self, call: int, kind: str, **more: object) -> None:
        write_frame(self._replies, {"call": call, "kind": kind, **more})

    # --- requests ---------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        request = read_frame(self._requests)
        if request is None:
            os._exit(0)
        call, do, its = request["call"], request["do"], request["with"]
        if do == "interrupt":
            for seat in self._seats.values():
                seat.interrupt(its["call"])
        elif do == "lifetime":
            set_lifetime(its["seconds"])
            self._say(call, "done", value=None)
        elif do == "contexts":
            self._say(call, "done", value=[[seat.name, seat.cwd] for seat in self._seats.values()])
        elif do == "create":
            name = next(self._names)
            self._add(name, its["cwd"] or self._settings.home)
            self._say(call, "done", value=[name, self._seats[name].cwd])
        elif "context" in its:
            self._obey_for(self._seats.get(its["context"]), request)
        else:
            self._send(request)

    def _obey_for(self, seat: ContextProcess | None, request: dict[str, Any]) -> None:
        call, do = request["call"], request["do"]
        if seat is None:
            self._say(call, "done", refused="no_context", why=f"there is no context {request['with']['context']}")
            return
        if do == "run":
            seat.take(request)
            return
        if do == "remove":
            seat.close()
        # Those that are dead already have been waited for.
        self._bury()
        if seat.pid:
            os.kill(seat.pid, signal.SIGKILL)
            seat.died(os.waitpid(seat.pid, 0)[1], "killed")
        if do == "remove":
            del self._seats[seat.name]
        self._say(call, "done", value=None)

    # --- errands ----------------------------------------------------------------------------------------------------

    def _send(self, request: dict[str, Any]) -> None:
        reply, reply_w = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(reply)
            os.close(reply_w)
            why = f"no process is left for it ({error}); restart_code_context ends what the code started"
            self._say(request["call"], "done", refused="busy", why=why)
            return
        if pid == 0:
            run_unprivileged(
                (0, 0, 0, reply_w),
                self._settings.limits,
                self._settings.user,
                lambda: handle_file_request(request, self._settings.home),
            )
        os.close(reply_w)
        self._errands[reply] = _FileRequest(request["call"], pid, time.monotonic() + request["seconds"])
        self._loop.register(reply, selectors.EVENT_READ, functools.partial(self._collect, reply))

    def _collect(self, fd: int) -> None:
        its = self._errands[fd]
        part = os.read(fd, READ_BYTES)
        its.reply += part
        if part and len(its.reply) <= LARGEST_REPLY:
            return
        self._loop.unregister(fd)
        os.close(fd)
        del self._errands[fd]
        try:
            reply = json.loads(its.reply)
        except (ValueError, RecursionError):
            reply = {"refused": "busy", "why": "it took too long, or its process was killed"}
        self._say(its.call, "done", **{name: reply[name] for name in ("value", "refused", "why") if name in reply})

    # --- processes --------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        now = time.monotonic()
        for seat in self._seats.values():
            if now >= seat.alarm:
                seat.notify()
        for its in self._errands.values():
            if now >= its.alarm:
                its.alarm = FOREVER
                with contextlib.suppress(ProcessLookupError):
                    os.kill(its.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Wait for the dead: children of ours, and orphans of theirs that pid 1 inherits."""
        seats = {seat.pid: seat for seat in self._seats.values()}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if (seat := seats.get(found[0])) is not None:
                    self._gone.append((seat, found[1]))

    def _bury(self) -> None:
        """Let contexts know that their process is gone."""
        while self._gone:
            seat, status = self._gone.pop()
            seat.died(status, "died")

    def _sweep(self) -> None:
        """Kill every process but those of contexts and errands themselves: whoever comes next must not starve."""
        for _ in range(_MAX_SWEEPS):
            # Stop them all before the first is killed: its place would be taken by the next.
            held: set[int] = set()
            while fresh := self._others() - held:
                _signal(fresh, signal.SIGSTOP)
                held |= fresh
            if not held:
                return
            _signal(held, signal.SIGKILL)
            time.sleep(_SWEEP_PAUSE_S)
        # Faster than we are: then nobody is spared, and every context starts afresh.
        os.kill(-1, signal.SIGKILL)

    def _others(self) -> set[int]:
        """Living processes that the code has started."""
        self._reap()
        ours = {os.getpid(), *(seat.pid for seat in self._seats.values()), *(its.pid for its in self._errands.values())}
        found = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] not in b"ZX":
                    found.add(int(name))
        return found - ours


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def set_lifetime(seconds: float) -> None:
    """End this process, and so the container, in so many seconds, whatever it is doing then."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Warm up, serve."""
    requests, replies, user = start_server()
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    gc.collect()
    gc.freeze()
    write_frame(replies, {"ready": sys.version.split()[0]})
    settings = read_frame(requests)
    if settings is None:
        return
    set_lifetime(settings.pop("seconds"))
    Kernel(requests, replies, KernelSettings(**settings, user=user)).serve()


if __name__ == "__main__":
    main()
