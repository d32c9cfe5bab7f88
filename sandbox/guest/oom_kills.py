"""Counts the processes of the container that the Linux kernel has killed for memory.

Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import os

_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", os.devnull)
"""Where the kernel counts them: control groups version 2, version 1, nowhere."""


class OomKills:
    """The kernel's counter; its file stays open, since it is read before and after every child."""

    def __init__(self) -> None:
        self._file = os.open(next(path for path in _FILES if os.path.exists(path)), os.O_RDONLY)

    def count(self) -> int:
        """Processes killed so far; always 0 where the kernel counts nowhere."""
        lines = os.pread(self._file, 1000, 0).decode().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
