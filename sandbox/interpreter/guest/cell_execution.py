"""The process of one context: runs one cell after another in a namespace that stays.

Guarantees: rights are gone before the first byte of a cell is compiled. After that the cells own this process, and nothing that
it sends is trusted: the kernel relays it as the cell's own output, and reads the wait status.
Not responsible for: time limits. Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import gc
import inspect
import io
import json
import linecache
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, NoReturn

from sandbox.guest.child import apply_rlimits, drop_privileges, refuse_exec, rlimits_of, set_cpu_limit, write_all
from sandbox.guest.fork_server import read_frame
from sandbox.interpreter.guest.cell_loop import CellLoop

REPLIES_FD, REQUESTS_FD = 3, 4
"""Descriptors of a child: for its replies, and for the cells that a context reads."""
FORMS = ("html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript")
"""Forms of a displayed value besides text, each from its method `_repr_<form>_`."""
MAX_MESSAGE_CHARACTERS = 4096
"""Longer messages of exceptions are cut."""
MAX_TRACEBACK_CHARACTERS = 1 << 16
"""Of longer tracebacks only the end is kept."""


def run_unprivileged(descriptors: tuple[int, ...], limits: dict[str, Any], uid: int, body: Callable[[], None]) -> NoReturn:
    """In a fork of the server: drop all rights, run `body` and exit.

    Only these descriptors stay, as 0, 1, 2 and so on; 0 stands for /dev/null, since a descriptor of the server's would share
    flags and locks with it.
    """
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for target, fd in enumerate(descriptors):
            os.dup2(fd or null, target)
        os.closerange(len(descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        apply_rlimits(rlimits_of(limits))
        set_cpu_limit(limits["cpu_seconds"], limits["cpu_seconds"] + 1)
        drop_privileges(uid)
        refuse_exec()
        body()
        code = 0
    finally:
        os._exit(code)


class CellContext:
    """A namespace, and the connection to the kernel."""

    def __init__(self, cwd: str, envs: dict[str, str], max_bytes: int) -> None:
        os.chdir(cwd)
        os.environ.update(envs)
        self._pid = os.getpid()
        self._max_bytes = max_bytes
        self._running = False
        self._loop = CellLoop()
        self._main = ModuleType("__main__")
        sys.modules["__main__"] = self._main
        sys.path.insert(0, "")
        self._main.__dict__["display"] = self._display
        sys.stdout = sys.stderr = None  # those of the server; each cell opens its own

    def run_cells(self) -> None:
        """Run cells, one after the other, until the kernel closes the pipe."""
        while (request := self._next_request()) is not None:
            if "code" in request:
                self._run(request)
            else:
                _reap_children()

    def _next_request(self) -> Any:
        try:
            # Background tasks run meanwhile; one that blocks is interrupted like a cell.
            self._running = True
            self._loop.wait(REQUESTS_FD)
        except KeyboardInterrupt:
            pass
        finally:
            self._running = False
        return read_frame(REQUESTS_FD)

    def _run(self, request: dict[str, Any]) -> None:
        signal.signal(signal.SIGINT, self._interrupt)
        _open_streams()
        before = dict(os.environ)
        os.environ.update(request["envs"])
        try:
            self._running = True
            value = self._run_source(request["code"], request["name"])
            if value is not None:
                self._show(value, main=True)
            self._running = False
            outcome = {"kind": "done"}
        except BaseException as error:  # a cell may raise anything
            self._running = False
            outcome = {"kind": "error", **_format_error(error)}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if os.getpid() != self._pid:
            # A process that the cell forked has come to the cell's end: it must not take the next cell.
            with contextlib.suppress(Exception):
                sys.stderr.write(outcome.get("traceback", ""))
            os._exit(0 if outcome["kind"] == "done" else 1)
        if request["envs"]:
            os.environ.clear()
            os.environ.update(before)
        self._send(outcome)

    def _run_source(self, source: str, name: str) -> object:
        """Run a cell; the value of its last statement if that is an expression, else None."""
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = _parse(source, name)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            self._evaluate(_compile(tree, name, "exec"), source)
            return None
        del tree.body[-1]
        # Both are compiled before either runs: a cell with a syntax error has no effect.
        body, result = _compile(tree, name, "exec"), _compile(ast.Expression(last.value), name, "eval")
        self._evaluate(body, source)
        return self._evaluate(result, source)

    def _evaluate(self, code: CodeType, source: str) -> object:
        if code.co_flags & inspect.CO_COROUTINE:
            return self._loop.run(eval(code, self._main.__dict__))  # noqa: S307  # this is what the container is for
        with self._loop.offered(source):
            return eval(code, self._main.__dict__)  # noqa: S307

    def _display(self, *values: object) -> None:
        for value in values:
            self._show(value, main=False)

    def _show(self, value: object, *, main: bool) -> None:
        shown: dict[str, Any] = {"kind": "result", "main": main, "text": repr(value)}
        for form in FORMS:
            method = getattr(type(value), f"_repr_{form}_", None)
            if method is not None and (data := _display_data(method(value))) is not None:
                shown[form] = base64.b64encode(data).decode() if isinstance(data, bytes) else data
        if len(json.dumps(shown)) > self._max_bytes:
            # Escaped, a character takes at most six bytes.
            shown = {"kind": "result", "main": main, "text": f"{shown['text'][: self._max_bytes // 8]}… (cut)"}
        self._send(shown)

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        write_all(REPLIES_FD, struct.pack("!I", len(body)) + body)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self._running:
            raise KeyboardInterrupt


def _reap_children() -> None:
    """Reap children that were killed: zombies count as processes of the container."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _parse(source: str, name: str) -> ast.Module:
    # In Python 3.11.2 parsing fails when a finalizer parses meanwhile, as those of failed tasks do for their traceback.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source, name)
    finally:
        if collecting:
            gc.enable()


def _compile(tree: ast.AST, name: str, mode: str) -> CodeType:
    # The types of `compile` know no other flag that returns code.
    code: CodeType = compile(tree, name, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)  # type: ignore[call-overload]
    return code


def _display_data(result: Any) -> Any:
    """The data from the result of a display method, which may be data alone or a pair of data and metadata."""
    return result[0] if isinstance(result, tuple) and result else result


def _open_streams() -> None:
    """Open unbuffered standard streams. What a cell has put in their place stays, unless it is closed."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        if getattr(getattr(sys, name, None), "closed", True):
            raw = io.FileIO(fd, "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "replace", write_through=True))


def _format_error(error: BaseException) -> dict[str, str]:
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    try:
        if isinstance(error, SyntaxError) and error.text is None:
            error.text = linecache.getline(error.filename or "", error.lineno or 0)
        value = str(error)[:MAX_MESSAGE_CHARACTERS]
        lines = traceback.format_exception(type(error), error, trace)
        text = "".join(lines)[-MAX_TRACEBACK_CHARACTERS:]
    except BaseException:  # the cell's own __str__ may raise
        value = text = "an exception that cannot be printed"
    return {"name": type(error).__name__, "value": value, "traceback": text}
