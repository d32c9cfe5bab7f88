"""vLLM servers that we start: from nothing to healthy, watched, and gone with us.

Law: a fleet lives and dies as one: when a server ends, all end, and whoever asks is told why. Nothing of it outlives its
owner, see `roles.serving.keeper`. It sends no prompts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from events.errors import BadInput, ModelError
from events.logging import logger
from roles.serving.command import Serving, built_for_cpu, check, command, deal, environment
from roles.serving.processes import GRACE_S, PREFIX, clear, clear_all, record
from roles.serving.server import Server, held_ports

Progress = Callable[[float, str], None]
"""Told seconds and the last line of a log while servers start."""
_LOOK_S = 0.5
_SOCKET_PATH = 107
_UUID = 36


class Fleet:
    """Servers that answer; made by `start`."""

    def __init__(self, servers: Sequence[Server], key: str, folder: Path, keeper: subprocess.Popen[bytes]) -> None:
        self.servers = tuple(servers)
        """Where they are, and their logs."""
        self.key = key
        """What requests must bring: `Authorization: Bearer KEY`."""
        self.folder = folder
        """A folder that only this user can read, and that goes with the servers."""
        self._keeper = keeper
        self._death: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the servers answer, without `/v1`."""
        return tuple(server.url for server in self.servers)

    def death(self) -> str | None:
        """Why the servers ended, in a sentence; None while they live."""
        if self._death is None and self._keeper.poll() is not None:
            self._death = self._autopsy()
        return self._death

    def check(self) -> None:
        """Nothing, while the servers live.

        Raises:
            ModelError: one ended.
        """
        if (death := self.death()) is not None:
            raise ModelError(death)

    async def close(self) -> None:
        """End the servers and all that belongs to them. Safe to call twice."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._death = self.death() or "The vLLM servers were closed; start others"
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        clear(self.folder)

    def _autopsy(self) -> str:
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.read().split()
        if not said:
            return f"The keeper of the vLLM servers ended (code {self._keeper.returncode}), and they with it; start them again"
        server, code = self.servers[int(said[0])], int(said[1])
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        how += ", as the kernel does for want of memory" * (code == -9)
        return f"vLLM server {server.number} {how}: {server.last_words()} (all of it is in {server.log})"


async def start(serving: Serving, progress: Progress = lambda seconds, line: None) -> Fleet:
    """Start servers and wait until all answer.

    Raises:
        BadInput: vLLM, weights, GPUs or ports are not there.
        ModelError: a server ended, or did not answer in time.
    """
    check(serving)
    cpu = built_for_cpu()
    devices = deal(serving, cpu=cpu)
    await asyncio.to_thread(clear_all)
    serving.logs.mkdir(parents=True, exist_ok=True)
    with held_ports(serving.port, serving.replicas) as ports:
        logs = serving.logs.absolute()
        servers = [Server(number, port, logs / f"vllm-{port}.log") for number, port in enumerate(ports)]
        folder = _folder()
        key = serving.key or secrets.token_urlsafe(24)
        plan = [
            {
                "command": command(serving, server.port, cpu=cpu),
                "environment": environment(serving, folder, key, mine, cpu=cpu),
                "log": str(server.log),
            }
            for server, mine in zip(servers, devices, strict=True)
        ]
        fleet = Fleet(servers, key, folder, _keep(folder, plan))
        try:
            await _healthy(fleet, serving.start_s, progress)
        except BaseException:
            await asyncio.shield(fleet.close())
            raise
    logger().info("servers_started", urls=fleet.urls, model=serving.name)
    return fleet


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    # vLLM's sockets are called by a uuid.
    if len(f"{folder}/") + _UUID > _SOCKET_PATH:
        shutil.rmtree(folder)
        raise BadInput(f"{folder} is too long a name for sockets; set TMPDIR to a shorter one")
    return folder


def _keep(folder: Path, plan: Sequence[Mapping[str, object]]) -> subprocess.Popen[bytes]:
    keeper = subprocess.Popen(
        [sys.executable, "-m", "roles.serving.keeper", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    # First the record, then the plan: nothing is started that could not be found.
    record(folder, keeper.pid)
    keeper.stdin.write(json.dumps(plan).encode() + b"\n")
    keeper.stdin.flush()
    return keeper


async def _healthy(fleet: Fleet, limit_s: float, progress: Progress) -> None:
    began = time.monotonic()
    silent = list(fleet.servers)
    while silent:
        fleet.check()
        seconds = time.monotonic() - began
        last = await asyncio.to_thread(silent[0].last_line)
        if seconds > limit_s:
            raise ModelError(
                f"vLLM server {silent[0].number} did not answer within {limit_s:g} s, and said last: {last}"
                f" (all of it is in {silent[0].log}); give it longer, or find out what holds it"
            )
        progress(seconds, last)
        await asyncio.sleep(_LOOK_S)
        well = await asyncio.gather(*(asyncio.to_thread(server.answers, fleet.key) for server in silent))
        silent = [server for server, answered in zip(silent, well, strict=True) if not answered]
