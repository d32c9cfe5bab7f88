"""How a command of ours begins: with whole standard streams, and ready to be stopped without a traceback.

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
    from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a process to end in order."""
_SET_PDEATHSIG = 1
"""The option of Linux's `prctl`."""
ASCII_FALLBACK = "plain"
"""The error handler that writes what a terminal's encoding lacks in characters that each has."""
_PLAIN = {"…": "...", "–": "-", "—": "-", "·": "*", "→": "->", "“": '"', "”": '"', "’": "'", "×": "x"}


def begin_command() -> None:
    """Get ready, if Python is about to run a module of ours as a command (`python -m`); nothing where we are a library.

    A stop ends the process at once: what is imported in its first moment holds nothing that would have to be put away.
    """
    # While the module is looked for, and with it the package that it is in, Python writes this instead of a path.
    if sys.argv[:1] == ["-m"] or os.path.basename(sys.argv[0] if sys.argv else "") == "gasp":
        repair_streams()
        set_handlers(lambda number, _: exit_now(number))
        # The trainer's: its run may be killed while it still imports.
        parent = sys.argv[sys.argv.index("--parent") + 1 :][:1] if "--parent" in sys.argv else []
        if parent and parent[0].isdecimal() and not die_with_parent(int(parent[0])):
            os._exit(0)


def die_with_parent(parent: int) -> bool:
    """Let the kernel end this process at once when its parent ends, whatever it is doing; whether the parent is still there."""
    import ctypes

    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def set_handlers(handler: Any) -> dict[int, Any]:
    """Handle the signals so, but those that whoever started us has us ignore; the handlers before."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


def exit_now(number: int) -> NoReturn:
    """End the process at once, as if by this signal."""
    os._exit(128 + number)


def repair_streams() -> None:
    """Open what is closed, or the next file would become standard output; and let no character end a command."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ASCII_FALLBACK)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in lacking), error.end


codecs.register_error(ASCII_FALLBACK, _plainly)
