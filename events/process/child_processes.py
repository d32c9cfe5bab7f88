"""Child processes: how they begin, how they are ended, and what their output says of an end.

Not responsible for: servers of models, which have a supervisor of their own (`roles.serving`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from events.process.startup import signal_on_parent_death


def start_process(
    command: Sequence[str],
    output: BinaryIO,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    on_parent_death: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that prints into `output`, in a session of its own so that Ctrl-C reaches it through this process only.

    `environment` is added to the variables of this process. A process that has no option `--parent` gets the signal
    `on_parent_death` when this thread ends; this process must have no other thread then.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env={**os.environ, **environment},
        preexec_fn=None if on_parent_death is None else signal_on_parent_death(on_parent_death),  # noqa: PLW1509
    )


def end_processes(processes: Sequence[subprocess.Popen[bytes]], grace_s: float) -> None:
    """Ask processes to end (SIGTERM), and kill those that have not after so many seconds."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + grace_s
    for process in running:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_words(file: Path, start: int, code: int) -> str:
    """How a process with this return code ended: its last line in a file, from a byte on, and the signal if one killed it."""
    lines = []
    if file.exists():
        with file.open("rb") as output:
            output.seek(start)
            lines = [line.strip() for line in output.read().decode(errors="replace").split("\n") if line.strip()]
    if code >= 0:
        return f"{lines[-1][:300] if lines else 'it said nothing'} (see {file})"
    why = ", as the kernel does for want of memory" * (-code == signal.SIGKILL)
    last = f"; before that it said: {lines[-1][:300]} (see {file})" if lines else ""
    return f"it was killed by signal {-code} ({signal.strsignal(-code)}){why}{last}"
