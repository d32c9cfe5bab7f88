"""The in-container program refuses to start anywhere else: it kills what it sees and empties its scratch folder."""

import subprocess
import sys

import pytest

from sandbox.engine import engine, owner
from sandbox.host.container import ENVIRONMENT
from sandbox.host.worker import COMMAND
from tests.support.processes import refuses_on_the_host


def test_it_refuses_on_the_host_even_with_the_flag_set(tmp_path):
    canary = tmp_path / "canary"
    canary.touch()
    refuses_on_the_host("sandbox.guest.fork_server", ENVIRONMENT)
    assert canary.exists()


def test_importing_it_does_nothing():
    done = subprocess.run([sys.executable, "-c", "import sandbox.guest.fork_server"], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def exit_code(client, image, command, environment, **host):
    container = client.api.create_container(
        image, command, environment=environment, labels=owner.labels("tests-refusal"), **host
    )["Id"]
    try:
        client.api.start(container)
        return client.api.wait(container, timeout=60)["StatusCode"]
    finally:
        owner.remove_container(client, container)


@pytest.mark.docker
async def test_it_refuses_in_a_container_without_the_flag(runner):
    without = {name: value for name, value in ENVIRONMENT.items() if name != "GASP_INSIDE"}
    assert exit_code(engine.connect(), runner.provenance.image, list(COMMAND), without) == 78


@pytest.mark.docker
async def test_it_refuses_in_a_container_where_it_is_not_the_first_process(runner):
    second = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    command = ["python3.11", "-c", second, *COMMAND]
    assert exit_code(engine.connect(), runner.provenance.image, command, ENVIRONMENT) == 78


@pytest.mark.docker
async def test_it_refuses_where_the_scratch_folder_is_no_mount(runner):
    assert exit_code(engine.connect(), runner.provenance.image, list(COMMAND), ENVIRONMENT) == 1
