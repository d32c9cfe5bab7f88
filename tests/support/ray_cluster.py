"""A Ray cluster of one node of this machine, for a test: no dashboard, no autoscaler, no monitor of log files.

`python -m tests.support.ray_cluster OPTION ...` is `ray start --block OPTION ...`. It ends with the process that started it, and
nothing that Ray has started outlives it, however it ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roles.serving.processes import descendants, kill_until_gone
from tests.support.paths import ROOT
from tests.support.postgres_server import free_port
from tests.support.processes import all_end, wait_until

START = "import sys; sys.modules['ray.serve'] = None; from ray.scripts.scripts import main; main()"
"""The command `ray`, without Ray Serve, which it imports for a command of its own: half of the time of a start."""
PORTS = ("port", "ray-client-server-port", "dashboard-port", "dashboard-agent-listen-port")
SETTINGS = {
    # Ray ends workers of a machine that is short of memory, whoever fills it.
    "RAY_memory_monitor_refresh_ms": "0",
    # A process that forks while gRPC has threads dies sometimes (Ray's issue 63202): here the one that a client connects to.
    "GRPC_ENABLE_FORK_SUPPORT": "false",
    # Seconds that it may take to start; 30 are too few on a busy machine.
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",
}
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36


@contextmanager
def ray_cluster(folder: Path, cpus: int) -> Iterator[tuple[str, int]]:
    """The address of a cluster that keeps its files in a folder, and the process that everything in it descends from."""
    ports = {name: free_port() for name in PORTS}
    options = [f"--{name}={port}" for name, port in ports.items()]
    # Any free port for each worker, instead of the same range for every cluster of a machine.
    options += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder}", f"--num-cpus={cpus}"]
    options += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--disable-usage-stats"]
    options += ["--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"]
    printed = folder / "out"
    with printed.open("w") as output:
        command = [sys.executable, "-m", "tests.support.ray_cluster", *options]
        cluster = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=os.environ | SETTINGS)
    try:
        wait_until(lambda: "Ray runtime started" in printed.read_text() or cluster.poll() is not None, pause_s=0.2)
        assert cluster.poll() is None, printed.read_text()
        yield f"ray://127.0.0.1:{ports['ray-client-server-port']}", cluster.pid
    finally:
        below = descendants(cluster.pid)
        cluster.terminate()
        cluster.wait()
        assert all_end(below)


def main() -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # Whatever loses its parent becomes a child of this process.
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        sys.exit(subprocess.call([sys.executable, "-c", START, "start", "--head", "--block", *sys.argv[1:]]))
    finally:
        # At once: its own way takes seconds, and there is nothing to save.
        kill_until_gone(lambda: descendants(os.getpid()))


if __name__ == "__main__":
    main()
