"""A container that runs a guest program as its pid 1, and the stream to that program.

Guarantees: every container is created here, confined and labelled, and ends with this process: its standard input is ours
alone, and the guest program ends when that closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.engine import owner
from sandbox.host.confinement import host_config
from sandbox.host.stream import Stream
from sandbox.runner import Limits

if TYPE_CHECKING:
    import docker

SECONDS_TO_START = 300.0
"""Time until the program in a container must be ready; half a second is usual."""
ENVIRONMENT = {
    "GASP_INSIDE": "1",
    "PYTHONPATH": "/gasp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",  # noqa: S108  # inside the container
    # The one locale that every image has; Python reads and writes UTF-8 in it.
    "LC_ALL": "C",
}


class Container:
    """Creating the object starts the container."""

    def __init__(
        self,
        client: docker.DockerClient,
        image: str,
        command: Sequence[str],
        limits: Limits,
        run: str,
        runtime: str,
        hash_seed: int = 0,
    ) -> None:
        self._client = client
        api = client.api
        made = api.create_container(
            image,
            list(command),
            # The same for all: nothing that a program sees distinguishes its worker from another.
            hostname="sandbox",
            # The same order of sets of strings everywhere: verdicts must not depend on the worker.
            environment={**ENVIRONMENT, "PYTHONHASHSEED": str(hash_seed)},
            labels=owner.labels(run),
            working_dir="/",
            stdin_open=True,
            user="0:0",
            network_disabled=True,
            host_config=host_config(client, limits, runtime),
        )
        self.id = str(made["Id"])
        try:
            attached = api.attach_socket(self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            self.stream = Stream(attached)
            api.start(self.id)
        except BaseException:
            owner.remove_container(client, self.id)
            raise

    def close(self) -> None:
        """Remove it. Safe to call twice."""
        # The container first, so that a thread that reads from the stream sees its end.
        owner.remove_container(self._client, self.id)
        self.stream.close()
