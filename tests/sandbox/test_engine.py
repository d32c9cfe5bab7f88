"""The private engine: from nothing to running, killed in every part, started again, purged; and refusals that name the fix."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import docker
import psutil
import pytest

from events.facts.errors import SandboxError
from sandbox.engine import engine, image_build, owner
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job
from tests.support.private_engine import private_engine, processes_naming

JOBS = [Job(source="import time\ndef f(x):\n    time.sleep(0.2)\n    return x\n", inputs=("1",))] * 30


@pytest.fixture(scope="module")
def private():
    with private_engine() as private:
        yield private


def connect_to(private):
    def connect(say):
        private.up(say)
        return docker.DockerClient(base_url=private.url)

    return connect


@pytest.mark.docker
@pytest.mark.slow
def test_two_callers_at_once_start_one_engine(private):
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda _: private.up(), range(3)))
    assert engine.is_answering(private.url)
    assert len([line for line in processes_naming(str(private.data)) if line.startswith("dockerd")]) == 1


@pytest.mark.docker
@pytest.mark.slow
async def test_an_engine_killed_in_the_middle_is_an_error_and_the_next_start_works(private):
    private.up()
    pid = private.pid()
    client = connect_to(private)(engine.no_message)
    image_build.ensure_image(client, engine.no_message)
    runner = DockerRunner(workers=2, connect=lambda _: client)
    try:
        running = asyncio.create_task(runner.run(JOBS))
        await asyncio.sleep(2)
        os.kill(pid, 9)
        with pytest.raises(SandboxError, match=r"engine up"):
            await running
    finally:
        await runner.close()
    assert private.pid() is None
    assert processes_naming(str(private.state)) == []

    again = DockerRunner(workers=2, connect=connect_to(private))
    try:
        assert [execution.runs[0].value for execution in await again.run(JOBS[:4])] == ["1"] * 4
    finally:
        await again.close()
    assert client.containers.list(all=True) == []


@pytest.mark.docker
@pytest.mark.slow
def test_two_private_engines_build_an_image_of_the_same_id(private):
    # The engine that everybody shares is not asked: it keeps the image it has, of packages that may be older.
    with private_engine() as another:
        ids = {image_build.ensure_image(connect_to(each)(engine.no_message), engine.no_message) for each in (private, another)}
    assert len(ids) == 1


VICTIMS = ("engine", "dockerd", "worker", "shim", "owner")
SHIM = "containerd-shim-runc-v2"
PATIENCE_S = 60.0


class OwnerProcess:
    """A process that runs programs on the private engine, and what it prints."""

    def __init__(self, private):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sandbox_process", private.data, private.state],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def finish_calls(self, count):
        """Wait until so many more calls have come to their end; none of their results may be wrong."""
        while count:
            line = self.lines.get(timeout=PATIENCE_S)
            assert line == "0" or line.startswith("lost"), line
            count -= line == "0"

    def drop_lines(self):
        """Forget what was printed so far, which must not be wrong either."""
        while not self.lines.empty():
            assert self.lines.get().startswith(("0", "lost"))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def inside(private, name):
    """Processes of the engine by their name: pid and command line."""
    processes = {}
    for process in psutil.Process(private.pid()).children(recursive=True):
        # Programs come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == name:
                processes[process.pid] = " ".join(process.cmdline())
    return processes


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
    ids = {container.id for container in listed}
    leftovers = [
        f"container {container.id[:12]} ({container.state}) of {container.owner}"
        for container in listed
        if container.owner != living
    ]
    leftovers += [f"container {container.id[:12]} is {container.state}" for container in listed if container.state != "running"]
    leftovers += [f"shim {pid}" for pid, command in inside(private, SHIM).items() if not any(name in command for name in ids)]
    for group in Path("/sys/fs/cgroup").glob(f"*/{private.cgroup}/*"):
        if group.is_dir() and group.name not in ids:
            leftovers.append(f"control group {group}, processes {(group / 'cgroup.procs').read_text().split()}")
    (dockerd,) = inside(private, "dockerd")
    mounts = Path(f"/proc/{dockerd}/mounts").read_text().splitlines()
    merged = [line.split()[1] for line in mounts if "/overlay2/" in line]
    if len(merged) > len(ids):
        leftovers.append(f"{len(merged)} mounts of {len(ids)} containers: {merged}")
    leftovers += [line for line in Path("/proc/mounts").read_text().splitlines() if str(private.data) in line]
    client.close()
    return leftovers


@pytest.mark.docker
@pytest.mark.slow
def test_whoever_is_killed_nothing_is_left_after_a_restart_and_no_result_is_wrong(private):
    rng = random.Random(4)
    # The engine has the image: tests above have built it.
    worker = OwnerProcess(private)
    try:
        worker.finish_calls(1)
        for name in rng.sample(VICTIMS, len(VICTIMS)):
            time.sleep(rng.uniform(0, 0.6))
            os.kill(find_victim(name, private, worker.process, rng), signal.SIGKILL)
            if name == "owner":
                worker.kill()
                worker = OwnerProcess(private)
            worker.drop_lines()
            worker.finish_calls(2)
            deadline = time.monotonic() + 5
            while (left := leaks(private, worker.process.pid)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert left == [], f"after {name} was killed"
    finally:
        worker.kill()


@pytest.mark.docker
@pytest.mark.slow
def test_a_stale_process_id_is_not_believed(private):
    private.down()
    assert private.pid() is None
    (private.state / "engine.pid").write_text(f"{os.getpid()} 1")
    assert private.pid() is None
    private.up()
    assert engine.is_answering(private.url)


def test_purge_leaves_folders_alone_that_it_did_not_make(tmp_path):
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    engine.PrivateEngine(tmp_path / "data", tmp_path / "run").purge()
    assert (tmp_path / "data" / "precious").exists()
    assert (tmp_path / "run" / "precious").exists()


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("verb", ["up", "status"])
def test_a_docker_host_that_does_not_answer_is_one_sentence_and_no_fallback(verb, tmp_path):
    done = command("sandbox.engine", verb, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode == 1
    assert "DOCKER_HOST" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_and_without_an_engine_the_message_names_the_fix():
    if os.geteuid() != 0:
        pytest.skip("drops root to show what others see")
    script = (
        "import os; from pathlib import Path; from sandbox.engine.engine import PrivateEngine\n"
        "os.setuid(65534)\n"
        "PrivateEngine(Path('/nonexistent/data'), Path('/nonexistent/run')).up()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "SandboxError" in done.stderr
    assert "sudo python -m sandbox.engine up" in done.stderr


@pytest.mark.docker
def test_up_is_idempotent_and_status_names_the_engine():
    assert command("sandbox.engine", "up").returncode == 0
    done = command("sandbox.engine", "status")
    assert done.returncode == 0
    assert image_build.image_tag() in done.stderr


@pytest.mark.docker
def test_the_container_commands_answer():
    assert command("sandbox", "status").returncode == 0
    assert "Removed" in command("sandbox", "clean").stderr


@pytest.mark.parametrize("module", ["sandbox", "sandbox.engine"])
def test_help_is_readable(module):
    done = command(module, "--help")
    assert done.returncode == 0
    assert "Commands" in done.stdout


def test_a_folder_too_long_for_sockets_is_refused_with_the_cure(tmp_path):
    private = engine.PrivateEngine(tmp_path / "data", tmp_path / ("long" * 30))
    with pytest.raises(SandboxError, match="GASP_ENGINE"):
        private.up()


def test_an_engine_that_is_slow_to_answer_is_told_of_and_lives(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.2)
    mute = engine.PrivateEngine(tmp_path / "data", tmp_path / "run")
    mute.state.mkdir()
    living = subprocess.Popen(["sleep", "60"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(mute.url.removeprefix("unix://"))
        listening.listen()
        (mute.state / "engine.pid").write_text(f"{living.pid} {engine.process_start_time(living.pid)}")
        with pytest.raises(SandboxError, match="has not answered for"):
            mute.up()
    assert living.poll() is None
    living.kill()
    living.wait()
