"""vLLM servers that we start: from nothing to healthy, watched, and gone with us.

Law: a fleet lives and dies as one: when a server ends, all end, and whoever asks is told why. Nothing of it outlives its
owner, see `roles.serving.supervisor`. It sends no prompts.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from events.facts.errors import BadInput, ModelError
from events.text.logging import logger
from roles.serving.command import ServingConfig, assign_devices, built_for_cpu, check_config, server_command, server_environment
from roles.serving.processes import clear_orphaned_fleets, cpu_time_tenths, descendants
from roles.serving.server import VllmServer, reserved_ports
from roles.serving.supervised import ExitReport, SupervisedProgram, SupervisedPrograms, new_folder

Progress = Callable[[float, str], None]
"""Told seconds and the last line of a log while servers start."""
_POLL_S = 0.5


class Fleet:
    """Servers that answer; made by `start_fleet`."""

    def __init__(self, servers: Sequence[VllmServer], key: str, folder: Path, kept: SupervisedPrograms) -> None:
        self.servers = tuple(servers)
        """Where they are, and their logs."""
        self.key = key
        """What requests must bring: `Authorization: Bearer KEY`."""
        self.folder = folder
        """A folder that only this user can read, and that goes with the servers."""
        self._kept = kept
        self._death: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the servers answer, without `/v1`."""
        return tuple(server.url for server in self.servers)

    def death(self) -> str | None:
        """Why the servers ended, in a sentence; None while they live."""
        if self._death is None and (ended := self._kept.ended()) is not None:
            self._death = self._autopsy(ended)
        return self._death

    def check(self) -> None:
        """Nothing, while the servers live.

        Raises:
            ModelError: one ended.
        """
        if (death := self.death()) is not None:
            raise ModelError(death)

    def signs(self) -> tuple[int, int]:
        """What grows as long as the servers do something: bytes that they logged, and tenths of seconds that they computed."""
        logged = sum(server.log.stat().st_size for server in self.servers if server.log.exists())
        return logged, cpu_time_tenths({self._kept.keeper, *descendants(self._kept.keeper)})

    async def close(self) -> None:
        """End the servers and all that belongs to them. Safe to call twice."""
        self._death = self.death() or "The vLLM servers were closed; start others"
        await asyncio.to_thread(self._kept.end)

    def _autopsy(self, ended: ExitReport) -> str:
        how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"ended with code {ended.code}"
        how += ", as the kernel does for want of memory" * (ended.code == -signal.SIGKILL)
        if ended.number is None:
            return f"The keeper of the vLLM servers {how}, and they with it; start them again"
        server = self.servers[ended.number]
        return f"vLLM server {server.number} {how}: {server.error_summary()} (all of it is in {server.log})"


async def start_fleet(serving: ServingConfig, progress: Progress = lambda seconds, line: None) -> Fleet:
    """Start servers and wait until all answer.

    Raises:
        BadInput: vLLM, weights, GPUs or ports are not there.
        ModelError: a server ended, or did nothing for `serving.start_s` before it answered.
    """
    check_config(serving)
    cpu = built_for_cpu()
    devices = assign_devices(serving, cpu=cpu)
    await asyncio.to_thread(clear_orphaned_fleets)
    with reserved_ports(serving.port, serving.replicas) as ports:
        servers = [VllmServer(number, port, _make_log(serving.logs, port)) for number, port in enumerate(ports)]
        folder = new_folder()
        key = serving.key or secrets.token_urlsafe(24)
        programs = [
            SupervisedProgram(
                server_command(serving, server.port, cpu=cpu),
                server_environment(serving, folder, key, mine, cpu=cpu),
                str(server.log),
            )
            for server, mine in zip(servers, devices, strict=True)
        ]
        fleet = Fleet(servers, key, folder, SupervisedPrograms(folder, programs))
        try:
            await _wait_until_healthy(fleet, serving.start_s, progress)
        except BaseException:
            await asyncio.shield(fleet.close())
            raise
    logger().info("servers_started", urls=fleet.urls, model=serving.name)
    return fleet


def _make_log(folder: Path, port: int) -> Path:
    log = folder.absolute() / f"vllm-{port}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise BadInput(f"The log {log} cannot be written ({error.strerror}); give another folder for logs.") from error
    return log


async def _wait_until_healthy(fleet: Fleet, limit_s: float, progress: Progress) -> None:
    began = active = time.monotonic()
    silent = list(fleet.servers)
    before: object = None
    while silent:
        fleet.check()
        now = time.monotonic()
        last = await asyncio.to_thread(silent[0].last_line)
        # Large weights from a slow disk take any time; only who neither logs nor computes is stuck.
        if (signs := await asyncio.to_thread(fleet.signs)) != before:
            before, active = signs, now
        if now - active > limit_s:
            raise ModelError(
                f"vLLM server {silent[0].number} did nothing for {limit_s:g} s before it first answered, and said last: {last}"
                f" (all of it is in {silent[0].log}); find out what holds it."
            )
        progress(now - began, last)
        await asyncio.sleep(_POLL_S)
        well = await asyncio.gather(*(asyncio.to_thread(server.answers, fleet.key) for server in silent))
        silent = [server for server, answered in zip(silent, well, strict=True) if not answered]
