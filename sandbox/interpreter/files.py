"""The files of a sandbox, seen from the host.

Guarantees: every operation runs inside the container as the user of the code; files are read in chunks of bounded size.
Relative paths start at the home folder.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal, TypedDict, overload

from sandbox.interpreter.connection import Connection
from sandbox.interpreter.errors import InvalidArgumentException
from sandbox.interpreter.values import EntryInfo, WriteInfo, parse_entry

CHUNK_BYTES = 1 << 20
"""Bytes of a file in one request or reply."""
REQUEST_SECONDS = 60.0
"""Default timeout of a request."""


class WriteEntry(TypedDict):
    """A file to write."""

    path: str
    data: str | bytes | IO[Any]


class Filesystem:
    """File operations of one sandbox; `request_timeout` is in seconds, `REQUEST_SECONDS` by default."""

    def __init__(self, connection: Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes

    def _call(self, operation: str, seconds: float | None, **arguments: Any) -> Any:
        return self._connection.call(operation, seconds or REQUEST_SECONDS, **arguments)

    @overload
    def read(self, path: str, format: Literal["text"] = "text", request_timeout: float | None = None) -> str: ...
    @overload
    def read(self, path: str, format: Literal["bytes"], request_timeout: float | None = None) -> bytearray: ...
    @overload
    def read(self, path: str, format: Literal["stream"], request_timeout: float | None = None) -> Iterator[bytes]: ...
    def read(
        self, path: str, format: Literal["text", "bytes", "stream"] = "text", request_timeout: float | None = None
    ) -> str | bytearray | Iterator[bytes]:
        """The content of a file as text (UTF-8, malformed bytes become U+FFFD), as bytes, or as a stream of chunks.

        Raises:
            FileNotFoundException: there is no such file.
            InvalidArgumentException: it is no regular file, is not readable, or is too large for anything but a stream.
        """
        chunks = self._chunks(path, request_timeout)
        if format == "stream":
            return chunks
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > self._max_bytes:
                raise InvalidArgumentException(f"{path} has more than {self._max_bytes >> 20} MiB; read it as a stream.")
        return data if format == "bytes" else data.decode("utf-8", "replace")

    def _chunks(self, path: str, seconds: float | None) -> Iterator[bytes]:
        offset = 0
        while True:
            reply = self._call("read", seconds, path=path, offset=offset, size=CHUNK_BYTES)
            chunk = base64.b64decode(reply["data"])
            if chunk:
                yield chunk
            offset += len(chunk)
            if len(chunk) < CHUNK_BYTES:
                return

    def write(self, path: str, data: str | bytes | IO[Any], request_timeout: float | None = None) -> WriteInfo:
        """Write a whole file, and create the folders above it.

        Raises:
            NotEnoughSpaceException: the sandbox has no space left.
            InvalidArgumentException: the path is not writable.
        """
        content = data if isinstance(data, str | bytes | bytearray) else data.read()
        content = content.encode() if isinstance(content, str) else content
        for offset in range(0, max(1, len(content)), CHUNK_BYTES):
            chunk = base64.b64encode(content[offset : offset + CHUNK_BYTES]).decode()
            reply = self._call("write", request_timeout, path=path, data=chunk, offset=offset)
        entry = parse_entry(reply)
        return WriteInfo(entry.name, entry.type, entry.path)

    def write_files(self, files: Sequence[WriteEntry], request_timeout: float | None = None) -> list[WriteInfo]:
        """Write several files."""
        return [self.write(file["path"], file["data"], request_timeout) for file in files]

    def list(self, path: str, depth: int | None = 1, request_timeout: float | None = None) -> list[EntryInfo]:
        """The entries of a folder, and of its subfolders down to a depth, sorted by name.

        Raises:
            InvalidArgumentException: the depth is below 1, or the path is no folder.
            FileNotFoundException: there is no such folder.
        """
        if depth is not None and depth < 1:
            raise InvalidArgumentException(f"Depth is {depth}; it must be at least 1.")
        return [parse_entry(entry) for entry in self._call("list", request_timeout, path=path, depth=depth or 1)]

    def exists(self, path: str, request_timeout: float | None = None) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._call("exists", request_timeout, path=path))

    def get_info(self, path: str, request_timeout: float | None = None) -> EntryInfo:
        """Type, size, times and rights of a file or folder."""
        return parse_entry(self._call("get_info", request_timeout, path=path))

    def make_dir(self, path: str, request_timeout: float | None = None) -> bool:
        """Create a folder and those above it; False if it exists."""
        return bool(self._call("make_dir", request_timeout, path=path))

    def remove(self, path: str, request_timeout: float | None = None) -> None:
        """Remove a file, or a folder with its contents."""
        self._call("remove", request_timeout, path=path)

    def rename(self, old_path: str, new_path: str, request_timeout: float | None = None) -> EntryInfo:
        """Move a file or folder."""
        return parse_entry(self._call("rename", request_timeout, old_path=old_path, new_path=new_path))
