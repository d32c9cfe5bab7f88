"""The trainer's lock on its run, and the redirection of what libraries print to the run's `trainer.out`."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from events.facts.errors import BadInput


@contextmanager
def exclusive_trainer(run: Path, *, timeout_s: float = 0) -> Iterator[None]:
    """Hold the run's lock, waiting for it up to `timeout_s`.

    Raises:
        BadInput: another trainer holds it.
    """
    # Not truncated when it is opened: until this process has the lock, the file names the holder.
    with (run / "trainer.lock").open("a+") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    message = f"Another trainer (process {holder}) is working on {run}; stop it or wait, then try again."
                    raise BadInput(message) from error
                time.sleep(0.05)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def redirect_output(path: Path) -> Iterator[TextIO]:
    """Redirect standard output and error of the process to a file; yields the stream that was standard error."""
    sys.stdout.flush()
    sys.stderr.flush()
    # By descriptor, because libraries in C write past `sys.stdout`.
    out, err = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with os.fdopen(os.dup(err), "w", buffering=1, errors="replace") as screen:
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
