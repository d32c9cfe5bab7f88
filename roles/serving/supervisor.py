"""A process between servers and their owner, so that neither outlives the other: `python -m roles.serving.supervisor FOLDER`.

Guarantees: when the owner ends, by whatever cause, or closes the pipe, or one server ends, every process below this one is
killed and the folder is removed. As a subreaper it adopts orphans, so no descendant escapes. Not responsible for: vLLM.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from events.process.startup import signal_on_parent_death
from roles.serving.processes import GRACE_S, descendants, kill_until_gone, remove_folder

_SET_CHILD_SUBREAPER = 36
"""The option of Linux's `prctl`."""
_POLL_S = 0.5


def main(folder: Path) -> None:
    """Read the programs, one line of JSON on standard input; run them until owner, pipe or one of them ends."""
    owner = os.getppid()
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    programs = json.loads(line) if line else []
    servers = {_start_server(program, folder): number for number, program in enumerate(programs)}
    while os.getppid() == owner and not signals and servers:
        exited = _reap_exited(servers)
        if exited:
            _report_exit(*exited)
            break
        # A closed pipe shows at once that the owner has ended; a new parent shows it even if a fork of it holds the pipe.
        if select.select([sys.stdin.buffer], [], [], _POLL_S)[0]:
            break
    _terminate(servers)
    remove_folder(folder)


def _start_server(server: dict[str, object], folder: Path) -> int:
    with open(str(server["log"]), "wb") as log:
        process = subprocess.Popen(
            server["command"],  # type: ignore[call-overload]  # the owner wrote it
            env=server["environment"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=signal_on_parent_death(signal.SIGKILL),  # noqa: PLW1509  # this process has one thread
        )
    # `_reap_exited` waits for it, together with adopted orphans; Popen must not.
    process.returncode = 0
    return int(process.pid)


def _reap_exited(servers: dict[int, int]) -> tuple[int, int] | None:
    """Reap exited children; number and exit code of a server among them, None if there is none."""
    server = None
    with contextlib.suppress(ChildProcessError):
        while (exited := os.waitpid(-1, os.WNOHANG))[0]:
            number = servers.pop(exited[0], None)
            if number is not None:
                server = number, os.waitstatus_to_exitcode(exited[1])
    return server


def _report_exit(number: int, code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"{number} {code}\n".encode())


def _alive(servers: dict[int, int]) -> set[int]:
    _reap_exited(servers)
    return descendants(os.getpid())


def _terminate(servers: dict[int, int]) -> None:
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while servers and time.monotonic() < deadline:
        _reap_exited(servers)
        time.sleep(0.05)
    kill_until_gone(lambda: _alive(servers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
