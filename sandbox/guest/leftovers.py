"""Ends the processes that programs have left and removes their files. Stdlib only: this file lies in the container."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import NoReturn

from sandbox.guest.child import drop_privileges

CLEANUP_SECONDS = 10
"""How long removing the leftovers of one job may take."""


@dataclass
class Usage:
    """What all processes of a job used."""

    cpu: float = 0.0
    """CPU seconds, together."""
    peak: int = 0
    """Resident KiB of the largest one."""
    wall: float = 0.0
    """Wall-clock seconds, one after another."""

    def add(self, cpu: float, peak: int, wall: float = 0.0) -> None:
        """Count one more process."""
        self.cpu += cpu
        self.peak = max(self.peak, peak)
        self.wall += wall


def kill_and_reap_all(pid: int, at_once: bool = True) -> tuple[int, Usage]:
    """Kill every other process of the container and reap them; wait status of `pid`, and what all of them used.

    As pid 1 the server adopts all orphans, hence no child left to wait for means no process left at all.
    """
    status, used = 0, Usage()
    first = None if at_once else os.wait4(pid, 0)
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            gone, code, usage = first or os.wait4(-1, 0)
        except ChildProcessError:
            return status, used
        first = None
        used.add(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        if gone == pid:
            status = code


def remove_leftovers(scratch: int, user: int) -> NoReturn:
    """In a child: remove what the programs left, with their rights and not with ours."""
    try:
        drop_privileges(user)
        signal.alarm(CLEANUP_SECONDS)
        while names := os.listdir(scratch):
            for name in names:
                try:
                    os.unlink(name, dir_fd=scratch)
                except IsADirectoryError:
                    _remove_tree(name, scratch)
    finally:
        os._exit(0)


def _remove_tree(name: str, scratch: int) -> None:
    """Remove a folder, after lifting the folders in it up to the top: no depth is too deep, and no link is followed."""
    os.chmod(name, 0o700, dir_fd=scratch)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=scratch)
    for inner in os.listdir(folder):
        try:
            os.unlink(inner, dir_fd=folder)
        except IsADirectoryError:
            os.chmod(inner, 0o700, dir_fd=folder)
            os.rename(inner, os.urandom(8).hex(), src_dir_fd=folder, dst_dir_fd=scratch)
    os.close(folder)
    os.rmdir(name, dir_fd=scratch)
