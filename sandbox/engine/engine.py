"""Finds the Docker engine that answers, or starts a private one.

Guarantees:
- Programs never run on the host instead of in a container.
- The private engine has its own data root, socket and namespaces for network, mounts and processes; everything in it dies
  with one process, and the host's network is untouched.
- Only folders with the engine's own marker file are deleted.

Not responsible for: images and containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from events.facts.errors import SandboxError
from sandbox.engine import packages

if TYPE_CHECKING:
    import docker

Notify = Callable[[str], None]
"""Progress callback: takes a sentence for people."""

DEFAULT_URL = "unix:///var/run/docker.sock"
"""Socket of the machine's own engine."""
SECONDS_TO_START = 300.0
"""Time until a private engine must answer; a second is usual, and its exit is noticed at once."""
ANSWER_SECONDS = 300
"""Timeout of one request; where no engine listens, that is noticed at once."""
_MARKER_FILE = ".gasp-engine"
_LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"
MAX_SOCKET_PATH = 107
"""Most bytes of the path of a Unix socket (Linux)."""
_RECORD_PID_AND_EXEC = 'echo $$ $(cut -d" " -f22 /proc/$$/stat) > "$0" && exec "$@"'
"""Shell: writes its own process id and start time to file $0, then execs "$@", so that the pid file is never late."""
_REAP_AND_RUN_DOCKERD = 'dockerd "$@" & child=$!; trap "kill -TERM $child" TERM; wait $child; wait $child'
"""Shell, process 1 of the engine's namespace: reaps orphans, which dockerd does not, and exits when dockerd does."""


def no_message(_: str) -> None:
    """Progress callback that does nothing."""


def print_message(text: str) -> None:
    """Progress callback that writes to standard error."""
    sys.stderr.write(f"{text}\n")


@dataclass(frozen=True)
class PrivateEngine:
    """A private engine with two folders of its own."""

    data: Path = Path("/var/lib/gasp-docker")
    """Images and containers; the engine's own programs, where the machine has none."""
    state: Path = Path("/run/gasp-docker")
    """Socket, lock, process id and log."""

    @classmethod
    def default(cls) -> PrivateEngine:
        """The machine's one private engine; `GASP_ENGINE=/some/folder` moves it."""
        folder = os.environ.get("GASP_ENGINE")
        return cls(Path(folder, "data"), Path(folder, "run")) if folder else cls()

    @property
    def url(self) -> str:
        """Address of its socket."""
        return f"unix://{self.state}/docker.sock"

    @property
    def cgroup(self) -> str:
        """Control group of its containers, beside the caller's own."""
        return f"gasp-{hashlib.sha256(str(self.data).encode()).hexdigest()[:8]}"

    def pid(self) -> int | None:
        """The process with which the whole engine dies; None if it is not alive."""
        try:
            pid, started = (self.state / "engine.pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if process_start_time(int(pid)) == started else None

    def up(self, notify: Notify = no_message) -> None:
        """Start it unless it answers already, safely from two processes at once; SandboxError if it cannot start here."""
        if is_answering(self.url) and self.pid():
            return
        if os.geteuid() != 0 or not (shutil.which("dockerd") or packages.available()):
            raise SandboxError(
                "No Docker engine answers, and a private one needs root on Debian or Ubuntu; "
                "start Docker, or set DOCKER_HOST to an engine, or run `sudo python -m sandbox.engine up`."
            )
        if len(str(self.state / _LONGEST_SOCKET)) > MAX_SOCKET_PATH:
            raise SandboxError(
                f"The folder {self.state} is too long a name for Docker's sockets; set GASP_ENGINE to a shorter one."
            )
        with self._locked():
            if is_answering(self.url) and self.pid():
                return
            self._kill()
            self._start(self._programs(notify), notify)

    def down(self, notify: Notify = no_message) -> None:
        """Stop it and everything that runs in it. Its images stay."""
        if not self.state.is_dir():
            return
        with self._locked():
            pid = self.pid()
            if pid:
                notify("Stopping the private Docker engine.")
                with contextlib.suppress(OSError):
                    # The recorded process is `unshare`; its child is the shell that passes SIGTERM on to dockerd.
                    os.kill(_child_of(pid), signal.SIGTERM)
                _wait_until(lambda: self.pid() is None, 15)
            self._kill()
            for name in ("engine.pid", "docker.sock", "docker.pid"):
                (self.state / name).unlink(missing_ok=True)

    def purge(self, notify: Notify = no_message) -> None:
        """Stop it and remove both of its folders."""
        self.down(notify)
        for folder in (self.data, self.state):
            if folder.is_symlink() or not (folder / _MARKER_FILE).is_file():
                continue
            notify(f"Removing {folder}.")
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        for folder in (self.state, self.data):
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Only a folder that we create is marked, and only marked folders are ever deleted.
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o711)
                (folder / _MARKER_FILE).touch()
        with (self.state / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _programs(self, notify: Notify) -> dict[str, str]:
        """Environment variables with dockerd on the PATH: the machine's own, else from unpacked packages."""
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        if shutil.which("dockerd", path=path):
            return {**os.environ, "PATH": path}
        root = self.data / "programs"
        if not (root / "usr/sbin/dockerd").exists():
            notify("No dockerd on this machine: fetching Debian's docker.io (65 MB) into the engine's own folder.")
            debs = self.data / "debs"
            partial = self.data / "programs.partial"
            packages.unpack(packages.fetch_missing(["docker.io"], debs), partial)
            partial.rename(root)
            shutil.rmtree(debs)
        libraries = ":".join(str(folder) for folder in root.glob("usr/lib/*-linux-gnu"))
        return {**os.environ, "PATH": f"{root}/usr/sbin:{root}/usr/bin:{path}", "LD_LIBRARY_PATH": libraries}

    def _start(self, environment: dict[str, str], notify: Notify) -> None:
        notify(f"Starting a private Docker engine at {self.url}.")
        for name in ("docker.sock", "docker.pid"):
            (self.state / name).unlink(missing_ok=True)
        flags = [
            f"--data-root={self.data}/docker",
            f"--exec-root={self.state}/exec",
            f"--pidfile={self.state}/docker.pid",
            f"--host={self.url}",
            # Sandboxes have no network, so the engine needs no bridge and leaves the host's firewall alone.
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--storage-driver=overlay2",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self.cgroup}",
        ]
        alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        record = ["sh", "-c", _RECORD_PID_AND_EXEC, str(self.state / "engine.pid")]
        command = [*record, *alone, "sh", "-c", _REAP_AND_RUN_DOCKERD, "dockerd", *flags]
        with (self.state / "engine.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        if not _wait_until(lambda: process.poll() is not None or self._is_up(), SECONDS_TO_START) or process.poll():
            self._kill()
            raise SandboxError(
                f"The private Docker engine did not start: {_last_log_line(self.state / 'engine.log')}; "
                f"see {self.state}/engine.log, or set DOCKER_HOST to another engine."
            )

    def _is_up(self) -> bool:
        with contextlib.suppress(SandboxError):
            return is_answering(self.url)
        return False

    def _kill(self) -> None:
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            _wait_until(lambda: self.pid() is None, 10)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        # Its processes die a moment later; once the control groups can be removed, all are gone.
        _wait_until(self._remove_control_groups, 10)

    def _remove_control_groups(self) -> bool:
        """Remove the control groups, deepest first; the kernel keeps those that still have a process."""
        root = Path("/sys/fs/cgroup")
        groups = [group for group in (root / self.cgroup, *root.glob(f"*/{self.cgroup}")) if group.is_dir()]
        for group in groups:
            with contextlib.suppress(OSError):
                for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                    folder.rmdir()
                group.rmdir()
        return not any(group.is_dir() for group in groups)


def process_start_time(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty if it has ended. With the pid it identifies a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def boot_id() -> str:
    """Random id of the machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_answering(url: str) -> bool:
    """Whether a Docker engine answers at this address; SandboxError if something listens there and does not reply."""
    client = _client(url)
    return client is not None and not client.close()


@dataclass(frozen=True)
class EngineConnection:
    """A client of an engine that answers, and the engine's address."""

    client: docker.DockerClient
    url: str


def find_engine() -> EngineConnection | None:
    """The engine that answers: `DOCKER_HOST` if that is set, else the default socket, else the private one; None if none does.

    Raises:
        SandboxError: `DOCKER_HOST` is set and does not answer; no other engine is tried then.
    """
    named = os.environ.get("DOCKER_HOST")
    for url in (named,) if named else (DEFAULT_URL, PrivateEngine.default().url):
        client = _client(None if named else url)
        if client is not None:
            return EngineConnection(client, url)
    if named:
        raise SandboxError(f"No Docker engine answers at DOCKER_HOST={named}; start it, or unset DOCKER_HOST.")
    return None


def connect(notify: Notify = no_message) -> docker.DockerClient:
    """A client of the engine that answers, else of the private one, which is started; SandboxError if it cannot be."""
    connection = find_engine()
    if connection is None:
        PrivateEngine.default().up(notify)
        connection = find_engine()
    if connection is None:
        log = PrivateEngine.default().state / "engine.log"
        raise SandboxError(f"The private Docker engine stopped as soon as it was up; see {log}.")
    return connection.client


def _client(url: str | None) -> docker.DockerClient | None:
    if url is not None and not Path(url.removeprefix("unix://")).exists():
        return None
    import docker
    import requests

    client = None
    try:
        wait = ANSWER_SECONDS
        client = docker.from_env(timeout=wait) if url is None else docker.DockerClient(base_url=url, timeout=wait)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        if client is not None:
            client.close()
        # The client wraps what is raised while it asks for the engine's version.
        if isinstance(error, requests.Timeout) or isinstance(error.__context__, requests.Timeout):
            where = url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
            raise SandboxError(
                f"The Docker engine at {where} has not answered for {ANSWER_SECONDS} s: the machine is overloaded, or it"
                " hangs; try again later, or restart it (the private one with `gasp engine down`)."
            ) from error
        return None
    return client


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _last_log_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "its log is empty"


def _wait_until(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
