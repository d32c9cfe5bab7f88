"""Programs that end with this process, however it ends: the owner's side of `roles.serving.supervisor`.

Guarantees: every program that is started can be found and killed by a later process; the programs have a folder of their own,
which is removed with them. Not responsible for: vLLM.
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
from sandbox.engine.engine import MAX_SOCKET_PATH

_SOCKET_NAME = "/" + "0" * 36
"""A name as long as those of sockets in the folder."""


@dataclass(frozen=True)
class SupervisedProgram:
    """A command to run."""

    command: list[str]
    environment: dict[str, str]
    log: str
    """File for standard output and standard error."""


@dataclass(frozen=True)
class ExitReport:
    """The exit that ended all programs."""

    number: int | None
    """Of the program that ended first, from 0; None: the supervisor."""
    code: int
    """Exit code; if negative, the signal."""


class SupervisedPrograms:
    """Starts programs that run until one of them or this process ends; their working directory is from `new_folder`."""

    def __init__(self, folder: Path, programs: Sequence[SupervisedProgram]) -> None:
        self._folder = folder
        self._exit: ExitReport | None = None
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "roles.serving.supervisor", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._supervisor.stdin is not None
        write_record(folder, self._supervisor.pid)
        with contextlib.suppress(BrokenPipeError):
            self._supervisor.stdin.write(json.dumps([asdict(program) for program in programs]).encode() + b"\n")
            self._supervisor.stdin.flush()

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor, the parent of the programs."""
        return self._supervisor.pid

    def exit_report(self) -> ExitReport | None:
        """Why they ended; None while all run."""
        if self._exit is None and self._supervisor.poll() is not None:
            assert self._supervisor.stdout is not None
            report = self._supervisor.stdout.read().split()
            number, code = map(int, report) if report else (None, self._supervisor.returncode)
            self._exit = ExitReport(number, code)
        return self._exit

    def end(self) -> None:
        """End the programs and all that they started, and remove the folder. Safe to call twice."""
        assert self._supervisor.stdin is not None
        with contextlib.suppress(OSError):
            self._supervisor.stdin.close()
        try:
            self._supervisor.wait(timeout=2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        self.exit_report()
        clear_folder(self._folder)


def new_folder() -> Path:
    """A new folder for supervised programs, readable by this user only; BadInput if its path would be too long for sockets."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    if len(f"{folder}{_SOCKET_NAME}") > MAX_SOCKET_PATH:
        shutil.rmtree(folder)
        raise BadInput(f"{folder} is too long a name for sockets; set TMPDIR to a shorter one.")
    return folder
