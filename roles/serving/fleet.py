"""vLLM servers that we start: from nothing to healthy, watched, and gone with us.

Law: a fleet lives and dies as one: when a server ends, all end, and whoever asks is told why. Nothing of it outlives its
owner, see `roles.serving.keeper`. It sends no prompts.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from events.errors import BadInput, ModelError
from events.logging import logger
from events.safe_text import one_line
from events.secrets import masked
from roles.serving.command import HOST, Serving, built_for_cpu, check, command, deal, environment
from roles.serving.processes import GRACE_S, PREFIX, clear, clear_all, record
from roles.serving.view import view

Progress = Callable[[float, str], None]
"""Told seconds and the last line of a log while servers start."""
_SOCKET_PATH = 107
_LOOK_S = 0.5
_RAISED = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b(?:: .*)?$")
_FROM = re.compile(r"^\(\w+ pid=\d+\) ?(?:(?:ERROR|WARNING|INFO) [\d-]+ [\d:]+ \[[^\]]*\] ?)?")


class Fleet:
    """Servers that answer; made by `start`."""

    def __init__(
        self, keeper: subprocess.Popen[bytes], folder: Path, logs: list[Path], urls: tuple[str, ...], key: str
    ) -> None:
        self.urls = urls
        """Where they answer, without `/v1`."""
        self.key = key
        """What requests must bring: `Authorization: Bearer KEY`."""
        self._keeper = keeper
        self._folder = folder
        self._logs = logs
        self._why = ""

    @property
    def folder(self) -> Path:
        """A folder of its own that the servers can read, and that goes with them."""
        return self._folder

    @property
    def logs(self) -> list[Path]:
        """The log of each server."""
        return self._logs

    def death(self) -> str | None:
        """Why a server ended, in a sentence; None while all live."""
        if self._keeper.poll() is None:
            return None
        self._why = self._why or self._last_words()
        return self._why

    def check(self) -> None:
        """Nothing, while all servers live.

        Raises:
            ModelError: one ended.
        """
        why = self.death()
        if why is not None:
            raise ModelError(why)

    async def close(self) -> None:
        """End the servers and all that belongs to them. Safe to call twice."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(timeout=2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self.death()
        clear(self._folder)

    def _last_words(self) -> str:
        """What is left of a fleet whose keeper ended."""
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.read().split()
        if not said:
            return f"The keeper of the vLLM servers was killed (code {self._keeper.returncode}), and they with it; start again"
        number, code = int(said[0]), int(said[1])
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"vLLM server {number} {how}: {last_words(self._logs[number])} (see {self._logs[number]})"


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
    logs = [(serving.logs / f"vllm-{number}.log").absolute() for number in range(serving.replicas)]
    key = serving.key or secrets.token_urlsafe(24)
    with contextlib.ExitStack() as held:
        ports = [
            held.enter_context(_hold(serving.port and serving.port + number)).getsockname()[1]
            for number in range(serving.replicas)
        ]
        folder = _folder()
        weights = view(serving.weights, folder / "weights")
        plan = [
            {
                "command": command(serving, weights, port, cpu=cpu),
                "environment": environment(serving, folder, key, mine, cpu=cpu),
                "log": str(log),
            }
            for port, mine, log in zip(ports, devices, logs, strict=True)
        ]
        fleet = Fleet(_keep(folder, plan), folder, logs, tuple(f"http://{HOST}:{port}" for port in ports), key)
        try:
            await _wait(fleet, ports, serving, progress)
        except BaseException:
            await asyncio.shield(fleet.close())
            raise
    logger().info("servers_started", urls=fleet.urls, model=serving.name)
    return fleet


def last_words(log: Path) -> str:
    """What a server said before it ended: the first error raised, for the others come of it; else its last line."""
    lines = [_FROM.sub("", line).strip() for line in log.read_text(errors="replace").splitlines()] if log.exists() else []
    raised = next((number for number, line in enumerate(lines) if _RAISED.match(line)), None)
    if raised is not None:
        return _shown(" ".join(lines[raised : raised + 2]))
    return _shown(next((line for line in reversed(lines) if line), "it said nothing"))


def _shown(text: str) -> str:
    return masked(one_line(text, 300))


def _hold(port: int) -> socket.socket:
    """A port that nobody else gets while we hold it, and the server does: bound by both, listened on by it alone."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, port))
    except OSError as error:
        held.close()
        raise BadInput(f"Port {port} cannot be had ({error.strerror}); give another, or leave it out for a free one") from error
    return held


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    # vLLM adds a uuid to it.
    if len(str(folder)) + 37 > _SOCKET_PATH:
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
    # First the record, then the plan: what nobody could find is never started.
    record(folder, keeper.pid)
    keeper.stdin.write(json.dumps(plan).encode() + b"\n")
    keeper.stdin.flush()
    return keeper


async def _wait(fleet: Fleet, ports: list[int], serving: Serving, progress: Progress) -> None:
    began = time.monotonic()
    silent = list(range(len(ports)))
    while silent:
        fleet.check()
        seconds = time.monotonic() - began
        if seconds > serving.start_s:
            raise ModelError(
                f"vLLM server {silent[0]} did not answer within {serving.start_s:g} s: {last_line(fleet.logs[silent[0]])}"
                f" (see {fleet.logs[silent[0]]}); give it longer, or find out what holds it"
            )
        progress(seconds, last_line(fleet.logs[silent[0]]))
        await asyncio.sleep(_LOOK_S)
        answers = await asyncio.gather(*(asyncio.to_thread(_answers, ports[number], fleet.key) for number in silent))
        silent = [number for number, answered in zip(silent, answers, strict=True) if not answered]


def last_line(log: Path) -> str:
    """The last line of a log, safe to show."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - 4096))
            lines = opened.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((_shown(_FROM.sub("", line)) for line in reversed(lines) if line.strip()), "")


def _answers(port: int, key: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
