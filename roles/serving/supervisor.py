"""Stands between servers and who started them, so that neither outlives the other: `python -m roles.serving.supervisor FOLDER`.

Law: when the owner ends, by whatever cause, or closes the pipe, or one server ends, then everything below this process ends
and the folder goes. It adopts what loses its parent, so that nothing below it can slip away. It knows nothing of vLLM.
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

from roles.serving.processes import GRACE_S, descendants, kill_until_gone, remove_folder

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_POLL_S = 0.5


def main(folder: Path) -> None:
    """Read the plan, one line of JSON on the standard input; start it, and stay until it is to end."""
    owner = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_end.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    plan = json.loads(line) if line else []
    servers = {_start_server(server, folder, libc): number for number, server in enumerate(plan)}
    while os.getppid() == owner and not asked_to_end and servers:
        ended = _reap_exited(servers)
        if ended:
            _report_exit(*ended)
            break
        # The pipe says at once that its other end is closed; that the parent is another says it although a fork holds it open.
        if select.select([sys.stdin.buffer], [], [], _POLL_S)[0]:
            break
    _terminate(servers)
    remove_folder(folder)


def _start_server(server: dict[str, object], folder: Path, libc: ctypes.CDLL) -> int:
    def die_with_keeper() -> None:
        libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    with open(str(server["log"]), "wb") as log:
        process = subprocess.Popen(
            server["command"],  # type: ignore[call-overload]  # the owner wrote it
            env=server["environment"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_keeper,  # noqa: PLW1509  # this process has one thread
        )
    # Waited for by number, together with whatever is adopted.
    process.returncode = 0
    return int(process.pid)


def _reap_exited(servers: dict[int, int]) -> tuple[int, int] | None:
    """Bury the dead; the number and the code of a server among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            number = servers.pop(ended[0], None)
            if number is not None:
                found = number, os.waitstatus_to_exitcode(ended[1])
    return found


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
