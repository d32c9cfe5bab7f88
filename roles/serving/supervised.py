"""Programs that end with us, however we end: our side of `roles.serving.supervisor`.

Law: nothing is started that a later process could not find and end; they have a folder of their own, which goes with them.
It knows nothing of vLLM.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from events.facts.errors import BadInput
from roles.serving.processes import GRACE_S, PREFIX, clear_folder, write_record

_SOCKET_PATH = 107
"""Bytes that the kernel allows the path of a Unix socket."""
_SOCKET_NAME = "/" + "0" * 36
"""How long the names of sockets in the folder are."""


@dataclass(frozen=True)
class SupervisedProgram:
    """What to run."""

    command: list[str]
    """Program and arguments."""
    environment: dict[str, str]
    """The whole of it."""
    log: str
    """File for all that it says."""


@dataclass(frozen=True)
class ExitReport:
    """Why all of them ended."""

    number: int | None
    """Place of the program that did so first; None: it was the keeper."""
    code: int
    """Exit code; below 0, the signal."""


class SupervisedPrograms:
    """Programs that run, from now on, until one of them ends or we do.

    Args:
        folder: from `new_folder`; they work there.
        programs: what to run.
    """

    def __init__(self, folder: Path, programs: Sequence[SupervisedProgram]) -> None:
        self._folder = folder
        self._ended: ExitReport | None = None
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "roles.serving.supervisor", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._keeper.stdin is not None
        write_record(folder, self._keeper.pid)
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(json.dumps([asdict(program) for program in programs]).encode() + b"\n")
            self._keeper.stdin.flush()

    @property
    def keeper(self) -> int:
        """Process that they are below."""
        return self._keeper.pid

    def ended(self) -> ExitReport | None:
        """Why they ended; None while all run."""
        if self._ended is None and self._keeper.poll() is not None:
            assert self._keeper.stdout is not None
            said = self._keeper.stdout.read().split()
            self._ended = ExitReport(int(said[0]), int(said[1])) if said else ExitReport(None, self._keeper.returncode)
        return self._ended

    def end(self) -> None:
        """End them, and all that they started. Safe to call twice."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self.ended()
        clear_folder(self._folder)


def new_folder() -> Path:
    """A folder for programs that are to be kept, for this user only.

    Raises:
        BadInput: it would be too long a name for sockets.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    if len(f"{folder}{_SOCKET_NAME}") > _SOCKET_PATH:
        shutil.rmtree(folder)
        raise BadInput(f"{folder} is too long a name for sockets; set TMPDIR to a shorter one.")
    return folder
