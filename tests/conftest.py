"""Fixtures that several test files share: the real Docker runner, a real PostgreSQL server."""

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import structlog
from starlette.testclient import TestClient

from events.stores.memory import MemoryLog
from events.web.app import make_app
from events.web.view.viewer import Viewer
from roles.serving.processes import clear_orphaned_fleets
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Limits
from tests.support.example_runs import ExampleRun
from tests.support.postgres_server import PostgresServer, find_postgres, postgres_server
from tests.support.processes import start_command
from tests.support.viewer_client import record_run, wait_until_indexed
from trainer.learn.loss import hide_packages

LONG_FILES = """
    graph/test_vllm graph/test_players sandbox/test_engine trainer/test_distributed trainer/test_experiment graph/test_crash
    graph/test_real_model graph/test_resumed_calls events/test_browser roles/test_benchmarks sandbox/test_hostile
    graph/test_whole trainer/test_run benchmarks/test_trainer graph/test_trainer_process roles/test_serve roles/test_vllm
    sandbox/test_docker_runner graph/test_goalposts graph/test_shares benchmarks/test_benchmarks roles/test_reverify
    events/test_export roles/test_official graph/test_whole_recipes graph/test_trials sandbox/test_pool events/test_read_only
    events/test_web_live graph/test_documents benchmarks/test_players
    benchmarks/test_web sandbox/test_interpreter_limits trainer/test_offline sandbox/test_endurance
    events/test_postgres_durability trainer/test_loss roles/test_judging_rules events/test_web_guard trainer/test_loop
    trainer/test_evaluate events/test_app roles/test_serving graph/test_recorded events/test_exporters graph/test_run
    trainer/test_gradient events/test_shutdown graph/test_loop events/test_sqlite events/test_tampering
    roles/test_transformers events/test_race events/test_postgres events/test_hostile_arguments trainer/test_tuning
    events/test_commands trainer/test_precision trainer/test_adapter trainer/test_weight_lineage trainer/test_prune trainer/test_trials
    roles/test_pocket events/test_durability events/test_charts benchmarks/test_long_run benchmarks/test_serving
    graph/test_weight_sync graph/test_shared_servers graph/test_gguf_model roles/test_gguf graph/test_model_location docs/test_commands
    events/test_trace events/test_trace_command graph/test_paths events/test_estimators graph/test_refusals graph/test_budget
    trainer/test_results trainer/test_step roles/test_questions_layouts roles/test_replicas roles/test_questions_hub
    events/test_follow roles/test_attention roles/test_chat_encoding roles/test_kv_cache roles/test_prompts_command
    roles/test_similarity
""".split()
"""Files that take more than five seconds or load torch, the longest first: `make test` starts with them. `-m "not slow"`, as in
`make check`, leaves them out, quick tests and all, without importing them; it says so, and runs those that are named."""
LONG_PATHS = {Path(__file__).parent / f"{name}.py": rank for rank, name in enumerate(LONG_FILES)}
LEFT_OUT = pytest.StashKey[set[Path]]()

# A shell starts what runs in the background with Ctrl-C ignored, and every command that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# As in the Makefile, for whoever starts pytest alone: one thread is reproducible, and nothing is fetched.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def pytest_configure(config: pytest.Config) -> None:
    """Decide which files are left out; the processes that run tests and the one that reports do so alike."""
    named = {(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args}
    config.stash[LEFT_OUT] = LONG_PATHS.keys() - named if "not slow" in config.option.markexpr else set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import long files where slow tests are left out."""
    return collection_path in config.stash[LEFT_OUT] or None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if left_out := config.stash[LEFT_OUT]:
        terminalreporter.write_line(
            f"{len(left_out)} long files were left out: LONG_FILES in tests/conftest.py; name them to run their quick tests."
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Look for no garbage while modules are imported, and later never among what they made: it stays. Without sklearn, which
    transformers imports where it finds it, and only few tests use, later."""
    gc.disable()
    try:
        with hide_packages(("sklearn",)):
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal long files first, lest one of them be left to a single process at the end."""
    items.sort(key=lambda item: LONG_PATHS.get(item.path, len(LONG_PATHS)))


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


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, model servers' among them, that no other test looks into; its name is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="gasp-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    clear_orphaned_fleets()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the experiment that `--smoke` plays, its report in `report/` included, and what the command printed."""
    runs = tmp_path_factory.mktemp("runs")
    process = start_command("trainer.experiment", "--smoke", "--runs", runs, fresh=False)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return runs / "smoke", out


@pytest.fixture
def log() -> MemoryLog:
    """A new log in memory."""
    return MemoryLog()


@pytest.fixture
def example(tmp_path: Path) -> Iterator[ExampleRun]:
    """A run in the folder `runs/first`, which goes on."""
    example = record_run(tmp_path / "runs" / "first")
    yield example
    example.log.close()


@pytest.fixture
def viewer(tmp_path: Path, example: ExampleRun) -> Iterator[Viewer]:
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
