"""Thousands of programs leave the sandbox as they found it; whoever is killed in the middle, nothing is left after a restart."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue

import docker
import psutil
import pytest

from sandbox.engine import owner
from sandbox.host.docker_runner import DockerRunner
from sandbox.host.worker import Worker
from tests.support.private_engine import private_engine
from tests.support.sandbox_process import LIMITS, is_expected, job

pytestmark = [pytest.mark.docker, pytest.mark.slow]

VICTIMS = ("engine", "dockerd", "worker", "worker", "shim", "shim", "owner", "owner")
SHIM = "containerd-shim-runc-v2"
PATIENCE_S = 60.0


@pytest.fixture
def servers(monkeypatch):
    """What the servers say about themselves after every job, by container: size in MiB and lowest free descriptor."""
    said: dict[str, list[tuple[float, int]]] = {}
    unfit_reason = Worker._unfit_reason

    def noted(self, reply):
        said.setdefault(self.id, []).append(tuple(reply["server"]))
        return unfit_reason(self, reply)

    monkeypatch.setattr(Worker, "_unfit_reason", noted)
    return said


@pytest.mark.parametrize("programs", [1_000, pytest.param(10_000, marks=pytest.mark.endurance)])
async def test_thousands_of_programs_in_one_go_leave_host_and_workers_as_they_were(servers, programs):
    runner = DockerRunner(LIMITS, workers=2, run="tests-endurance")
    host = psutil.Process()
    try:
        await runner.run([job(number) for number in range(100)])
        memory, descriptors = host.memory_info().rss, host.num_fds()
        running = asyncio.create_task(runner.run([job(number) for number in range(programs)]))
        seen = []
        while not running.done():
            seen.append((host.memory_info().rss, host.num_fds()))
            await asyncio.wait([running], timeout=0.2)
        executions = running.result()
    finally:
        await runner.close()
    assert [(number, item) for number, item in enumerate(executions) if not is_expected(number, item)] == []
    # The results themselves are in it: about three KiB each.
    assert max(rss for rss, _ in seen) - memory < 64 << 20
    # Whatever earlier tests left to the garbage collector may go meanwhile; nothing may come.
    assert max(count for _, count in seen) <= descriptors
    assert len(servers) == 2, "a worker was replaced"
    for said in servers.values():
        assert max(size for size, _ in said) - said[0][0] < 4
        assert {free for _, free in said} == {said[0][1]}


class OwnerProcess:
    """A process that runs programs on the private engine, and what it says."""

    def __init__(self, private):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sandbox_process", private.data, private.state],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.said.put(line.strip())

    def finish_calls(self, count):
        """Wait until so many more calls have come to their end; none of their results may be wrong."""
        while count:
            said = self.said.get(timeout=PATIENCE_S)
            assert said == "0" or said.startswith("lost"), said
            count -= said == "0"

    def subscription(self):
        while not self.said.empty():
            assert self.said.get().startswith(("0", "lost"))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def private():
    with private_engine(image=True) as private:
        yield private


def inside(private, name):
    """Processes of the engine by their name: pid and command line."""
    found = {}
    for process in psutil.Process(private.pid()).children(recursive=True):
        # Programs come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == name:
                found[process.pid] = " ".join(process.cmdline())
    return found


def find_victim(name, private, owner_process, rng):
    if name == "owner":
        return owner_process.pid
    if name == "engine":
        return private.pid()
    if name == "dockerd":
        return rng.choice(list(inside(private, "dockerd")))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        # Now and then there is none, because it is being replaced.
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            shim = psutil.Process(rng.choice(list(inside(private, SHIM))))
            worker = shim.children()[0]
            return shim.pid if name == "shim" else worker.pid
        time.sleep(0.05)
    raise AssertionError("there is no worker")


def leaks(private, living):
    """What there is in the engine, on its mounts and in control groups beyond the workers of the living owner."""
    client = docker.DockerClient(base_url=private.url)
    listed = owner.owned_containers(client)
    ids = {item.id for item in listed}
    found = [f"container {item.id[:12]} ({item.state}) of {item.owner}" for item in listed if item.owner != living]
    found += [f"container {item.id[:12]} is {item.state}" for item in listed if item.state != "running"]
    found += [f"shim {pid}" for pid, command in inside(private, SHIM).items() if not any(name in command for name in ids)]
    for group in Path("/sys/fs/cgroup").glob(f"*/{private.cgroup}/*"):
        if group.is_dir() and group.name not in ids:
            found.append(f"control group {group}, processes {(group / 'cgroup.procs').read_text().split()}")
    (dockerd,) = inside(private, "dockerd")
    mounts = Path(f"/proc/{dockerd}/mounts").read_text().splitlines()
    merged = [line.split()[1] for line in mounts if "/overlay2/" in line]
    if len(merged) > len(ids):
        found.append(f"{len(merged)} mounts of {len(ids)} containers: {merged}")
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(private.data) in line]
    client.close()
    return found


def test_whoever_is_killed_nothing_is_left_after_a_restart_and_no_result_is_wrong(private):
    rng = random.Random(4)
    worker = OwnerProcess(private)
    try:
        worker.finish_calls(1)
        for name in rng.sample(VICTIMS, len(VICTIMS)):
            time.sleep(rng.uniform(0, 0.6))
            os.kill(find_victim(name, private, worker.process, rng), signal.SIGKILL)
            if name == "owner":
                worker.kill()
                worker = OwnerProcess(private)
            worker.subscription()
            worker.finish_calls(2)
            deadline = time.monotonic() + 5
            while (left := leaks(private, worker.process.pid)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert left == [], f"after {name} was killed"
    finally:
        worker.kill()
