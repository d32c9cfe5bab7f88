"""What containers may leave on a host: processes, mounts, control groups, and themselves. Looks, and touches nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sandbox.engine import owner


class ContainerLeftovers:
    """Remembers the containers of one run, so that one can ask what is left of them."""

    def __init__(self, client, run: str) -> None:
        self._client = client
        self._run = run
        self.seen: dict[str, str] = {}
        """Container ids, each with the folder on which its file system is mounted."""

    def look(self) -> None:
        for container in owner.owned_containers(self._client):
            if container.run == self._run and container.id not in self.seen:
                details = self._client.api.inspect_container(container.id)
                self.seen[container.id] = ((details.get("GraphDriver") or {}).get("Data") or {}).get(
                    "MergedDir"
                ) or container.id

    def left(self) -> list[str]:
        containers = [
            f"container {container.id}" for container in owner.owned_containers(self._client) if container.id in self.seen
        ]
        return [*containers, *self._processes_and_mounts(), *self._control_groups()]

    def _processes_and_mounts(self) -> list[str]:
        leftovers = []
        spaces = set()
        for folder in Path("/proc").glob("[0-9]*"):
            # A process may end while it is looked at, or belong to somebody else.
            with contextlib.suppress(OSError):
                groups = (folder / "cgroup").read_text()
                leftovers += [f"process {folder.name} of {name}" for name in self.seen if name in groups]
                space = os.readlink(folder / "ns/mnt")
                if space not in spaces:
                    spaces.add(space)
                    mounts = (folder / "mountinfo").read_text()
                    leftovers += [
                        f"mount of {name}" for name, merged in self.seen.items() if name in mounts or merged in mounts
                    ]
        return leftovers

    def _control_groups(self) -> list[str]:
        return [
            f"control group {folder}/{name}"
            for folder, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if any(container in name for container in self.seen)
        ]
