"""Fixtures that several test files share: the real Docker runner, a real PostgreSQL server."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import structlog
from starlette.testclient import TestClient

from events.web.app import make_app
from events.web.view.viewer import Viewer
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Limits
from tests.support.example_runs import ExampleRun
from tests.support.postgres_server import PostgresServer, find_postgres, postgres_server
from tests.support.viewer_client import record_run, wait_until_indexed

# A shell starts what runs in the background with Ctrl-C ignored, and every command that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_logging_left_set_up() -> Iterator[None]:
    """A process logs once somebody has set logging up; a test that did, or captured it, must not make the next one talk."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def runner():
    """A runner on the real engine, which is started if need be, with limits short enough for tests."""
    runner = DockerRunner(Limits(wall_seconds=3, cpu_seconds=2), workers=2, run="tests")
    yield runner
    asyncio.run(runner.close())


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a database on a server of our own; a test adds `?run=...`, a name that no other test uses."""
    # Nothing crashes this one, so it need not wait for the disk.
    with postgres_server(postgres_programs(), fsync="off") as server:
        yield server.url


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may crash and damage."""
    with postgres_server(postgres_programs()) as server:
        yield server


@pytest.fixture
def guarded_postgres(own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a server that lets nobody in without a password; it is in the environment."""
    with psycopg.connect(own_postgres.url) as db:
        db.execute("ALTER ROLE gasp PASSWORD 's3cr3t-of-mine'")
        (own_postgres.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        db.execute("SELECT pg_reload_conf()")
    monkeypatch.setenv("PGPASSWORD", "s3cr3t-of-mine")
    return own_postgres.url


def postgres_programs() -> Path:
    """The server's programs; skips the test where there are none."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("there is no PostgreSQL server; .ci/postgres installs it")
    return programs


@pytest.fixture(scope="session")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the experiment that `--smoke` plays, its report in `report/` included, and what the command printed."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "trainer.experiment", "--smoke", "--runs", str(runs)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return runs / "smoke", done.stdout


@pytest.fixture
def told(tmp_path: Path) -> Iterator[ExampleRun]:
    """A run in the folder `runs/first`, which goes on."""
    told = record_run(tmp_path / "runs" / "first")
    yield told
    told.log.close()


@pytest.fixture
def viewer(tmp_path: Path, told: ExampleRun) -> Iterator[Viewer]:
    """A viewer of the folder `runs`."""
    with closing(Viewer([str(tmp_path / "runs")])) as viewer:
        yield viewer


@pytest.fixture
def browser(viewer: Viewer) -> TestClient:
    """What asks the viewer, once it knows the run."""
    wait_until_indexed(viewer, "first")
    return TestClient(make_app(viewer))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
