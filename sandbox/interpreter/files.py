"""The files of a sandbox, seen from the host.

Law: everything happens inside the container, as the user that the code runs as; a file comes out in pieces of a known
size and never more than fits. Relative paths begin where the code starts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal, TypedDict, overload

from sandbox.interpreter.connection import Connection
from sandbox.interpreter.errors import InvalidArgumentException
from sandbox.interpreter.values import EntryInfo, WriteInfo, parse_entry

CHUNK_BYTES = 1 << 20
"""Bytes of a file that travel at once."""
REQUEST_SECONDS = 60.0
"""How long a request may take, unless it says otherwise."""


class WriteEntry(TypedDict):
    """A file to write."""

    path: str
    data: str | bytes | IO[Any]


class Filesystem:
    """Reads and writes. Every method may be given the seconds that it may take."""

    def __init__(self, line: Connection, largest: int) -> None:
        self._line = line
        self._largest = largest

    def _ask(self, do: str, seconds: float | None, **its: Any) -> Any:
        return self._line.ask(do, seconds or REQUEST_SECONDS, **its)

    @overload
    def read(self, path: str, format: Literal["text"] = "text", request_timeout: float | None = None) -> str: ...
    @overload
    def read(self, path: str, format: Literal["bytes"], request_timeout: float | None = None) -> bytearray: ...
    @overload
    def read(self, path: str, format: Literal["stream"], request_timeout: float | None = None) -> Iterator[bytes]: ...
    def read(
        self, path: str, format: Literal["text", "bytes", "stream"] = "text", request_timeout: float | None = None
    ) -> str | bytearray | Iterator[bytes]:
        """A file, as text (UTF-8; what is not becomes U+FFFD), as bytes, or in pieces.

        Raises:
            FileNotFoundException: there is none.
            InvalidArgumentException: it is no regular file, or may not be read, or is too large for anything but pieces.
        """
        pieces = self._pieces(path, request_timeout)
        if format == "stream":
            return pieces
        data = bytearray()
        for piece in pieces:
            data += piece
            if len(data) > self._largest:
                raise InvalidArgumentException(f"{path} has more than {self._largest >> 20} MiB; read it as a stream.")
        return data if format == "bytes" else data.decode("utf-8", "replace")

    def _pieces(self, path: str, seconds: float | None) -> Iterator[bytes]:
        offset = 0
        while True:
            said = self._ask("read", seconds, path=path, offset=offset, size=CHUNK_BYTES)
            piece = base64.b64decode(said["data"])
            if piece:
                yield piece
            offset += len(piece)
            if len(piece) < CHUNK_BYTES:
                return

    def write(self, path: str, data: str | bytes | IO[Any], request_timeout: float | None = None) -> WriteInfo:
        """Write a file whole, and the folders that it needs.

        Raises:
            NotEnoughSpaceException: the sandbox's files are full.
            InvalidArgumentException: it may not be written there.
        """
        content = data if isinstance(data, str | bytes | bytearray) else data.read()
        content = content.encode() if isinstance(content, str) else content
        for offset in range(0, max(1, len(content)), CHUNK_BYTES):
            piece = base64.b64encode(content[offset : offset + CHUNK_BYTES]).decode()
            said = self._ask("write", request_timeout, path=path, data=piece, offset=offset)
        entry = parse_entry(said)
        return WriteInfo(entry.name, entry.type, entry.path)

    def write_files(self, files: Sequence[WriteEntry], request_timeout: float | None = None) -> list[WriteInfo]:
        """Write several files."""
        return [self.write(file["path"], file["data"], request_timeout) for file in files]

    def list(self, path: str, depth: int | None = 1, request_timeout: float | None = None) -> list[EntryInfo]:
        """What is in a folder, and in the folders in it down to a depth, sorted by name."""
        if depth is not None and depth < 1:
            raise InvalidArgumentException(f"depth is {depth}; it must be at least 1.")
        return [parse_entry(said) for said in self._ask("list", request_timeout, path=path, depth=depth or 1)]

    def exists(self, path: str, request_timeout: float | None = None) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._ask("exists", request_timeout, path=path))

    def get_info(self, path: str, request_timeout: float | None = None) -> EntryInfo:
        """What is known of a file or folder."""
        return parse_entry(self._ask("get_info", request_timeout, path=path))

    def make_dir(self, path: str, request_timeout: float | None = None) -> bool:
        """Make a folder and those above it; False if it was there."""
        return bool(self._ask("make_dir", request_timeout, path=path))

    def remove(self, path: str, request_timeout: float | None = None) -> None:
        """Remove a file, or a folder with all that is in it."""
        self._ask("remove", request_timeout, path=path)

    def rename(self, old_path: str, new_path: str, request_timeout: float | None = None) -> EntryInfo:
        """Move a file or folder."""
        return parse_entry(self._ask("rename", request_timeout, old_path=old_path, new_path=new_path))
