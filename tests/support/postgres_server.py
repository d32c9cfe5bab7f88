"""A real PostgreSQL server of the test's own: a new cluster in a temporary directory, on a free loopback port.

It never runs as root, never touches a server that is there already, and is gone when the test session ends. The
program comes from Debian's package; `.ci/postgres` installs it.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

USER = "gasp"
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "600s",
    "log_min_messages": "fatal",
}


def find_postgres() -> Path | None:
    """Directory of `initdb` and `pg_ctl`: Debian's newest, or the one on PATH."""
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda path: int(path.parent.name))
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


class PostgresServer:
    """A server that can be stopped, crashed and started again."""

    def __init__(self, programs: Path, folder: Path, options: dict[str, str]) -> None:
        self.data = folder / "data"
        self._programs = programs
        self._server_log = folder / "server.log"
        port = free_port()
        settings = OPTIONS | {"port": str(port), "unix_socket_directories": str(folder)} | options
        self._options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        run("cp", "-a", _empty_cluster(programs), self.data)

    def start(self) -> None:
        """Returns when it takes connections."""
        run(self._programs / "pg_ctl", "-D", self.data, "-o", self._options, "-l", self._server_log, "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """End it; `immediate` is a crash."""
        run(self._programs / "pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")


@cache
def _empty_cluster(programs: Path) -> Path:
    """A cluster that is copied for every server: making one takes a second, copying it a tenth."""
    folder = _new_folder()
    atexit.register(shutil.rmtree, folder)
    run(programs / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    return folder / "data"


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gasp-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    return folder


@contextmanager
def postgres_server(programs: Path, **options: str) -> Iterator[PostgresServer]:
    """A running server with settings of one's own."""
    folder = _new_folder()
    try:
        server = PostgresServer(programs, folder, options)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def run(*command: object) -> None:
    """Run a program of the server as the user `postgres`, or as whoever runs the tests if that is not root."""
    words = [str(word) for word in command]
    # Not piped: the server would inherit the pipe and keep it open.
    with tempfile.TemporaryFile() as output:
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        ended = subprocess.run(
            words,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=[] if account else None,
        )
        if ended.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(words)} ended with {ended.returncode}: {output.read().decode()[-2000:]}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
