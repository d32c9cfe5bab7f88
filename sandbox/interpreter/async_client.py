"""The asyncio version of the interpreter: the same methods, as coroutines, on top of `client.py` and `files.py`.

Guarantees: the event loop never blocks, and a cell whose caller is cancelled is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from asyncio import to_thread
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import IO, Any, Literal, NoReturn, Self, overload

from sandbox.interpreter.client import OutputCallback, Sandbox, dispatch_frame
from sandbox.interpreter.connection import Frame
from sandbox.interpreter.files import Filesystem, WriteEntry
from sandbox.interpreter.values import Context, EntryInfo, Execution, SandboxInfo, WriteInfo


class AsyncSandbox:
    """A running sandbox, created by `await AsyncSandbox.create()`. The methods are those of `Sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Called by `create` and `connect` only."""
        self._sandbox = sandbox
        self.sandbox_id = sandbox.sandbox_id
        """Short id of the container."""
        self.files = AsyncFilesystem(sandbox.files)

    @classmethod
    async def create(cls, *args: Any, **options: Any) -> Self:
        """Start a sandbox; the arguments are those of `Sandbox.create`."""
        starting = asyncio.ensure_future(to_thread(Sandbox.create, *args, **options))
        try:
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

    async def create_code_context(
        self, cwd: str | None = None, language: str | None = None, request_timeout: float | None = None
    ) -> Context:
        """See `Sandbox.create_code_context`."""
        return await to_thread(self._sandbox.create_code_context, cwd, language, request_timeout)

    async def list_code_contexts(self) -> list[Context]:
        """See `Sandbox.list_code_contexts`."""
        return await to_thread(self._sandbox.list_code_contexts)

    async def restart_code_context(self, context: Context | str) -> None:
        """See `Sandbox.restart_code_context`."""
        await to_thread(self._sandbox.restart_code_context, context)

    async def remove_code_context(self, context: Context | str) -> None:
        """See `Sandbox.remove_code_context`."""
        await to_thread(self._sandbox.remove_code_context, context)

    async def kill(self) -> bool:
        """See `Sandbox.kill`."""
        return await to_thread(self._sandbox.kill)

    async def is_running(self) -> bool:
        """See `Sandbox.is_running`."""
        return self._sandbox.is_running()

    async def set_timeout(self, timeout: float) -> None:
        """See `Sandbox.set_timeout`."""
        await to_thread(self._sandbox.set_timeout, timeout)

    async def get_info(self) -> SandboxInfo:
        """See `Sandbox.get_info`."""
        return self._sandbox.get_info()


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

    async def write(self, path: str, data: str | bytes | IO[Any], request_timeout: float | None = None) -> WriteInfo:
        """See `Filesystem.write`."""
        return await to_thread(self._files.write, path, data, request_timeout)

    async def write_files(self, files: Sequence[WriteEntry], request_timeout: float | None = None) -> list[WriteInfo]:
        """See `Filesystem.write_files`."""
        return await to_thread(self._files.write_files, files, request_timeout)

    async def list(self, path: str, depth: int | None = 1, request_timeout: float | None = None) -> list[EntryInfo]:
        """See `Filesystem.list`."""
        return await to_thread(self._files.list, path, depth, request_timeout)

    async def exists(self, path: str, request_timeout: float | None = None) -> bool:
        """See `Filesystem.exists`."""
        return await to_thread(self._files.exists, path, request_timeout)

    async def get_info(self, path: str, request_timeout: float | None = None) -> EntryInfo:
        """See `Filesystem.get_info`."""
        return await to_thread(self._files.get_info, path, request_timeout)

    async def make_dir(self, path: str, request_timeout: float | None = None) -> bool:
        """See `Filesystem.make_dir`."""
        return await to_thread(self._files.make_dir, path, request_timeout)

    async def remove(self, path: str, request_timeout: float | None = None) -> None:
        """See `Filesystem.remove`."""
        await to_thread(self._files.remove, path, request_timeout)

    async def rename(self, old_path: str, new_path: str, request_timeout: float | None = None) -> EntryInfo:
        """See `Filesystem.rename`."""
        return await to_thread(self._files.rename, old_path, new_path, request_timeout)
