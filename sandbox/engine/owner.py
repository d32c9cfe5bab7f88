"""Labels that name the process which owns a container, and the removal of orphaned containers.

Guarantees: a container is never touched while its owner lives, nor one of another machine on a shared engine.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.engine.engine import boot_id, process_start_time

if TYPE_CHECKING:
    import docker

_OWNER, _START, _RUN, _HOST, _BOOT = (f"gasp.{name}" for name in ("owner", "owner_start", "run", "host", "boot"))


@dataclass(frozen=True)
class OwnedContainer:
    """A container made by a GASP process."""

    id: str
    run: str
    """Name of the run that it works for."""
    owner: int
    state: str
    """State by the engine's name for it, such as `running`."""
    orphan: bool


def labels(run: str) -> dict[str, str]:
    """Labels that make this process the owner of a container."""
    pid = os.getpid()
    return {_OWNER: str(pid), _START: process_start_time(pid), _RUN: run, _HOST: socket.gethostname(), _BOOT: boot_id()}


def owned_containers(client: docker.DockerClient) -> list[OwnedContainer]:
    """Every GASP container of the engine, running or not."""
    containers = client.api.containers(all=True, filters={"label": _OWNER})
    return [
        OwnedContainer(
            id=container["Id"],
            run=container["Labels"].get(_RUN, ""),
            owner=int(container["Labels"][_OWNER]),
            state=container["State"],
            orphan=_owner_gone(container["Labels"]),
        )
        for container in containers
    ]


def in_use(client: docker.DockerClient) -> bool:
    """Whether the engine has a container whose owner lives."""
    return any(not container.orphan for container in owned_containers(client))


def remove_orphans(client: docker.DockerClient) -> int:
    """Remove the containers whose owner has ended, and return how many there were."""
    orphans = [container for container in owned_containers(client) if container.orphan]
    for container in orphans:
        remove_container(client, container.id)
    return len(orphans)


def remove_container(client: docker.DockerClient, container: str) -> None:
    """Remove a container, running or not; does nothing if it or the engine is gone already."""
    import docker
    import requests

    with contextlib.suppress(docker.errors.APIError, requests.RequestException, OSError):
        client.api.remove_container(container, force=True)


def _owner_gone(labels: dict[str, str]) -> bool:
    if labels.get(_HOST) != socket.gethostname():
        return False
    return labels.get(_BOOT) != boot_id() or process_start_time(int(labels[_OWNER])) != labels.get(_START)
