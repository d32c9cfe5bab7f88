"""Consoles that outlive their window."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, NoReturn, TextIO, cast

from rich.console import Console


class RaisingConsole(Console):
    """Rich's console; that nobody reads it any more is an error like any other, and no exit."""

    def on_broken_pipe(self) -> NoReturn:
        """Tell whoever printed.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError


class DetachableStream(io.TextIOBase):
    """A stream that goes on in silence once its window or its reader is gone, for work that must not end with them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the window takes."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether there is a window."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write it, or nothing."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


def detachable_console(*, stderr: bool = False) -> RaisingConsole:
    """A console for what is played for hours."""
    return RaisingConsole(file=cast(IO[str], DetachableStream(sys.stderr if stderr else sys.stdout)))
