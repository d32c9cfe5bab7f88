"""A fleet of vLLM servers that this process starts, watches and ends.

Guarantees: when a server ends, all end, and later requests get the reason as an error. Nothing of a fleet outlives its owner,
see `roles.serving.supervisor`. Not responsible for: requests.
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
"""Progress callback while servers start: elapsed seconds, and the last line of a log."""
_POLL_S = 0.5


class Fleet:
    """Running servers, started by `start_fleet`."""

    def __init__(self, servers: Sequence[VllmServer], key: str, folder: Path, programs: SupervisedPrograms) -> None:
        self.servers = tuple(servers)
        self.key = key
        """API key: `Authorization: Bearer KEY`."""
        self.folder = folder
        """A folder that only this user can read, removed with the servers."""
        self._programs = programs
        self._exit_reason: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of the servers, without `/v1`."""
        return tuple(server.url for server in self.servers)

    def exit_reason(self) -> str | None:
        """Why the servers ended, in a sentence; None while they run."""
        if self._exit_reason is None and (report := self._programs.exit_report()) is not None:
            self._exit_reason = self._describe(report)
        return self._exit_reason

    def check(self) -> None:
        """Check that the servers run; ModelError if one has ended."""
        if (reason := self.exit_reason()) is not None:
            raise ModelError(reason)

    def activity(self) -> tuple[int, int]:
        """Bytes logged and tenths of CPU seconds used by all servers: either grows as long as they do something."""
        logged = sum(server.log.stat().st_size for server in self.servers if server.log.exists())
        return logged, cpu_time_tenths({self._programs.supervisor_pid, *descendants(self._programs.supervisor_pid)})

    async def close(self) -> None:
        """End the servers and remove their folder. Safe to call twice."""
        self._exit_reason = self.exit_reason() or "The vLLM servers were closed; start others"
        await asyncio.to_thread(self._programs.end)

    def _describe(self, report: ExitReport) -> str:
        how = f"was killed by signal {-report.code}" if report.code < 0 else f"ended with code {report.code}"
        how += ", as the kernel does for want of memory" * (report.code == -signal.SIGKILL)
        if report.number is None:
            return f"The supervisor of the vLLM servers {how}, and they with it; start them again"
        server = self.servers[report.number]
        return f"vLLM server {server.number} {how}: {server.error_summary()} (all of it is in {server.log})"


async def start_fleet(serving: ServingConfig, progress: Progress = lambda seconds, line: None) -> Fleet:
    """Start servers and wait until all answer.

    Raises:
        BadInput: vLLM, weights, GPUs or ports are not available.
        ModelError: a server ended, or did nothing for `serving.start_s` seconds before it answered.
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
    began = last_active = time.monotonic()
    starting = list(fleet.servers)
    before: object = None
    while starting:
        fleet.check()
        now = time.monotonic()
        last = await asyncio.to_thread(starting[0].last_line)
        # Loading weights from a slow disk takes any time; only a server that neither logs nor computes is stuck.
        if (activity := await asyncio.to_thread(fleet.activity)) != before:
            before, last_active = activity, now
        if now - last_active > limit_s:
            raise ModelError(
                f"vLLM server {starting[0].number} did nothing for {limit_s:g} s before it answered; its last line: {last}"
                f" (all of it is in {starting[0].log}); find out what holds it."
            )
        progress(now - began, last)
        await asyncio.sleep(_POLL_S)
        ready = await asyncio.gather(*(asyncio.to_thread(server.answers, fleet.key) for server in starting))
        starting = [server for server, answers in zip(starting, ready, strict=True) if not answers]
