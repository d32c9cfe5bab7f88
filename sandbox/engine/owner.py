"""Who owns a container: labels that name the process which made it, and the removal of what dead owners left.

Law: a container of a living owner is never touched by another process, nor one of another machine on a shared engine.
It starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.engine.engine import process_start_time

if TYPE_CHECKING:
    import docker

_OWNER, _START, _RUN, _HOST, _BOOT = (f"gasp.{name}" for name in ("owner", "owner_start", "run", "host", "boot"))


@dataclass(frozen=True)
class OwnedContainer:
    """A container of ours, or of another GASP process."""

    id: str
    """Container id."""
    run: str
    """Name of the run it works for."""
    owner: int
    """Process that made it."""
    state: str
    """What the engine says about it."""
    orphan: bool
    """Whether its owner is gone."""


def labels(run: str) -> dict[str, str]:
    """Labels for a container made by this process."""
    pid = os.getpid()
    return {
        _OWNER: str(pid),
        _START: process_start_time(pid),
        _RUN: run,
        _HOST: socket.gethostname(),
        _BOOT: _boot_id(),
    }


def owned_containers(client: docker.DockerClient) -> list[OwnedContainer]:
    """Every GASP container that the engine knows, running or not."""
    found = client.api.containers(all=True, filters={"label": _OWNER})
    return [
        OwnedContainer(
            id=item["Id"],
            run=item["Labels"].get(_RUN, ""),
            owner=int(item["Labels"][_OWNER]),
            state=item["State"],
            orphan=_owner_gone(item["Labels"]),
        )
        for item in found
    ]


def remove_orphans(client: docker.DockerClient) -> int:
    """Remove the containers whose owner is gone; how many there were."""
    orphans = [item for item in owned_containers(client) if item.orphan]
    for item in orphans:
        remove_container(client, item.id)
    return len(orphans)


def remove_container(client: docker.DockerClient, container: str) -> None:
    """Remove a container, running or not; nothing happens if it is gone already or the engine is."""
    import docker
    import requests

    with contextlib.suppress(docker.errors.APIError, requests.RequestException, OSError):
        client.api.remove_container(container, force=True)


def _owner_gone(by: dict[str, str]) -> bool:
    if by.get(_HOST) != socket.gethostname():
        return False
    return by.get(_BOOT) != _boot_id() or process_start_time(int(by[_OWNER])) != by.get(_START)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
