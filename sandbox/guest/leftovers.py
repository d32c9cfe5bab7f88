"""Kills the processes that programs have left and removes their files.

Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

from sandbox.guest.child import drop_privileges
from sandbox.guest.usage import Usage

CLEANUP_SECONDS = 10
"""Most wall-clock seconds to remove the files of one job."""


def kill_and_reap_all(pid: int, at_once: bool = True) -> tuple[int, Usage]:
    """Kill and reap every other process of the container.

    As pid 1 the server adopts all orphans: once there is no child to wait for, there is no other process. With `at_once` false
    the child `pid` may exit first. The result is the wait status of that child, and the usage of all processes.
    """
    status, used = 0, Usage()
    first = None if at_once else os.wait4(pid, 0)
    while True:
        with contextlib.suppress(ProcessLookupError):
            # Again before every wait: a process that was forked during the last kill did not get the signal.
            os.kill(-1, signal.SIGKILL)
        try:
            reaped, code, usage = first or os.wait4(-1, 0)
        except ChildProcessError:
            return status, used
        first = None
        used.add(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        if reaped == pid:
            status = code


def remove_leftovers(scratch: int, uid: int) -> NoReturn:
    """Remove all files in the scratch folder, with the rights of the programs, and exit; to be called in a child process."""
    try:
        drop_privileges(uid)
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
    """Remove a folder after moving its subfolders to the top: works at any depth, and follows no link."""
    os.chmod(name, 0o700, dir_fd=scratch)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=scratch)
    for inner in os.listdir(folder):
        try:
            os.unlink(inner, dir_fd=folder)
        except IsADirectoryError:
            os.chmod(inner, 0o700, dir_fd=folder)
            # A random name, so that nothing which the program has put at the top is in the way.
            os.rename(inner, os.urandom(8).hex(), src_dir_fd=folder, dst_dir_fd=scratch)
    os.close(folder)
    os.rmdir(name, dir_fd=scratch)
