"""The asyncio version of the interpreter: the same methods, as coroutines, on top of `client.py` and `files.py`.

Guarantees: the event loop never blocks, and a cell whose caller is cancelled is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from asyncio import to_thread
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, Literal, NoReturn, ParamSpec, Self, TypeVar, overload

from sandbox.interpreter.client import OutputCallback, Sandbox, dispatch_frame
from sandbox.interpreter.connection import Frame
from sandbox.interpreter.files import Filesystem
from sandbox.interpreter.values import Context, Execution

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_thread(
    method: Callable[Concatenate[Any, _P], _T], attribute: str
) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]:
    """The asynchronous version of a method, which it calls in a thread on the object in an attribute of its own object."""

    @functools.wraps(method)
    async def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await to_thread(method, getattr(self, attribute), *args, **kwargs)

    return call


class AsyncSandbox:
    """A running sandbox, created by `await AsyncSandbox.create()`. The methods are those of `Sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.sandbox_id = sandbox.sandbox_id
        """Short id of the container."""
        self.files = AsyncFilesystem(sandbox.files)

    @classmethod
    async def create(cls, *args: Any, **options: Any) -> Self:
        """Start a sandbox; the arguments are those of `Sandbox.create`."""
        starting = asyncio.ensure_future(to_thread(Sandbox.create, *args, **options))
        try:
            # A thread cannot be cancelled, so the start goes on and its result must not be lost.
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:
            # Nobody will get the sandbox, so nobody would kill it.
            starting.add_done_callback(lambda done: None if done.exception() else done.result().kill())
            raise

    @classmethod
    async def connect(cls, sandbox_id: str, timeout: float | None = None) -> Self:
        """See `Sandbox.connect`."""
        return cls(await to_thread(Sandbox.connect, sandbox_id, timeout))

    def __getattr__(self, name: str) -> NoReturn:
        Sandbox.__getattr__(self._sandbox, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def run_code(
        self,
        code: str,
        language: str | None = None,
        context: Context | None = None,
        on_stdout: OutputCallback | None = None,
        on_stderr: OutputCallback | None = None,
        on_result: OutputCallback | None = None,
        on_error: OutputCallback | None = None,
        envs: dict[str, str] | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
    ) -> Execution:
        """See `Sandbox.run_code`; callbacks may be coroutine functions."""
        execution = Execution()
        callbacks: Sequence[OutputCallback | None] = (on_stdout, on_stderr, on_result, on_error)
        request = self._sandbox.cell(code, language, context, envs, timeout)
        async with contextlib.aclosing(self._frames(request)) as frames:
            async for frame in frames:
                callback, value = dispatch_frame(execution, frame, callbacks)
                awaitable = callback(value) if callback is not None else None
                if inspect.isawaitable(awaitable):
                    await awaitable
        return execution

    async def _frames(self, request: Frame) -> AsyncGenerator[Frame, None]:
        connection, loop = self._sandbox.connection, asyncio.get_running_loop()
        arrived: asyncio.Queue[Frame] = asyncio.Queue()

        def enqueue(frame: Frame) -> None:
            # On a closed loop nobody waits for frames.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(arrived.put_nowait, frame)

        number = connection.begin(request, enqueue)
        try:
            kind = ""
            while kind != "done":
                frame = connection.checked(await arrived.get())
                kind = frame["kind"]
                yield frame
        finally:
            connection.cancel(number)

    create_code_context = _in_thread(Sandbox.create_code_context, "_sandbox")
    list_code_contexts = _in_thread(Sandbox.list_code_contexts, "_sandbox")
    restart_code_context = _in_thread(Sandbox.restart_code_context, "_sandbox")
    remove_code_context = _in_thread(Sandbox.remove_code_context, "_sandbox")
    kill = _in_thread(Sandbox.kill, "_sandbox")
    is_running = _in_thread(Sandbox.is_running, "_sandbox")
    set_timeout = _in_thread(Sandbox.set_timeout, "_sandbox")
    get_info = _in_thread(Sandbox.get_info, "_sandbox")


class AsyncFilesystem:
    """File operations; the methods are those of `Filesystem`."""

    def __init__(self, files: Filesystem) -> None:
        self._files = files

    @overload
    async def read(self, path: str, format: Literal["text"] = "text", request_timeout: float | None = None) -> str: ...
    @overload
    async def read(self, path: str, format: Literal["bytes"], request_timeout: float | None = None) -> bytearray: ...
    @overload
    async def read(
        self, path: str, format: Literal["stream"], request_timeout: float | None = None
    ) -> AsyncIterator[bytes]: ...
    async def read(
        self, path: str, format: Literal["text", "bytes", "stream"] = "text", request_timeout: float | None = None
    ) -> str | bytearray | AsyncIterator[bytes]:
        """See `Filesystem.read`."""
        if format == "stream":
            return self._chunks(path, request_timeout)
        if format == "bytes":
            return await to_thread(self._files.read, path, "bytes", request_timeout)
        return await to_thread(self._files.read, path, "text", request_timeout)

    async def _chunks(self, path: str, seconds: float | None) -> AsyncIterator[bytes]:
        chunks = self._files.read(path, "stream", seconds)
        while chunk := await to_thread(next, chunks, b""):
            yield chunk

    write = _in_thread(Filesystem.write, "_files")
    write_files = _in_thread(Filesystem.write_files, "_files")
    list = _in_thread(Filesystem.list, "_files")
    exists = _in_thread(Filesystem.exists, "_files")
    get_info = _in_thread(Filesystem.get_info, "_files")
    make_dir = _in_thread(Filesystem.make_dir, "_files")
    remove = _in_thread(Filesystem.remove, "_files")
    rename = _in_thread(Filesystem.rename, "_files")
