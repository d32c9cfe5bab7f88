"""What the processes of a job used, and how long one of them had no core.

Standard library only: this file is copied into the image.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Usage:
    """Resources that all processes of a job used."""

    cpu: float = 0.0
    """CPU seconds, summed."""
    peak: int = 0
    """Resident KiB of the largest process."""
    wall: float = 0.0
    """Wall-clock seconds, summed over the children, without `waited`."""
    waited: float = 0.0
    """Seconds without a core that a wall-clock limit left out of account."""

    def add(self, cpu: float, peak: int, wall: float = 0.0, waited: float = 0.0) -> None:
        """Add the usage of one more process."""
        self.cpu += cpu
        self.peak = max(self.peak, peak)
        self.wall += wall
        self.waited += waited


def seconds_without_core(pid: int) -> float:
    """How long the first thread of a process was ready to run and had no core; 0 where the kernel does not count it."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
