"""Start of a command: standard streams are open, and a signal ends it without a traceback.

It imports next to nothing, so that it is done before anything else loads.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a process to end."""
_SET_PDEATHSIG = 1
"""The option of Linux's `prctl`."""
ASCII_FALLBACK = "plain"
"""Name of the codec error handler that replaces characters that a terminal's encoding lacks by ASCII."""
_ASCII = {"…": "...", "–": "-", "—": "-", "·": "*", "→": "->", "“": '"', "”": '"', "’": "'", "×": "x"}


def begin_command() -> None:
    """Prepare the process if Python is about to run a module as a command (`python -m`); do nothing in a library.

    Until the command has set its own handlers, a signal ends the process at once: it holds nothing yet that must be released.
    """
    # While Python looks for the module and imports its package, argv[0] is this instead of a path.
    if sys.argv[:1] == ["-m"] or os.path.basename(sys.argv[0] if sys.argv else "") == "gasp":
        repair_streams()
        set_handlers(lambda number, _: exit_now(number))
        # For the trainer: its run may be killed while it still imports.
        parent = sys.argv[sys.argv.index("--parent") + 1 :][:1] if "--parent" in sys.argv else []
        if parent and parent[0].isdecimal() and not die_with_parent(int(parent[0])):
            os._exit(0)


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent ends; returns whether the parent is still there."""
    signal_on_parent_death(signal.SIGKILL)()
    # The parent may have ended before the kernel was asked; then this process has another one by now.
    return os.getppid() == parent


def signal_on_parent_death(number: int) -> Callable[[], object]:
    """A function for `preexec_fn`: has the kernel send its process this signal when the thread that started it ends."""
    import ctypes

    # Loaded here, because little may be called between fork and exec.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_SET_PDEATHSIG, number, 0, 0, 0)


def set_handlers(handler: Any) -> dict[int, Any]:
    """Set a handler for the signals, except for those that the parent process had ignored; returns the previous handlers."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


def exit_now(number: int) -> NoReturn:
    """End the process at once, with the exit code of this signal."""
    os._exit(128 + number)


def repair_streams() -> None:
    """Open closed standard streams, or the next file would become one; and let no character raise an encoding error."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ASCII_FALLBACK)


def _replace_with_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in text), error.end


codecs.register_error(ASCII_FALLBACK, _replace_with_ascii)
