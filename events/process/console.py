"""Consoles that raise on a closed pipe, and streams that go on without their terminal."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, NoReturn, TextIO, cast

from rich.console import Console


class RaisingConsole(Console):
    """Rich's console that raises on a closed pipe instead of ending the process."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise `BrokenPipeError`."""
        raise BrokenPipeError


class DetachableStream(io.TextIOBase):
    """A stream that discards its text once its terminal or reader is gone, for work that must not end with them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property, where TextIOBase has an attribute
        """Encoding of the terminal."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """File descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write the text; discard this and all later text if nobody takes it."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""


def detachable_console(*, stderr: bool = False) -> RaisingConsole:
    """A console for work that takes hours."""
    return RaisingConsole(file=cast(IO[str], DetachableStream(sys.stderr if stderr else sys.stdout)))
