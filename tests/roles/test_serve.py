"""Real vLLM servers: healthy, behind a key, and gone with whoever started them, engine and worker processes included."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from roles.serving.processes import descendants
from sandbox.engine.engine import process_start_time
from tests.support.paths import ROOT
from tests.support.processes import NEEDS_VLLM, all_end

MEMORY = 0.25
"""GiB of keys and values."""
START_S = 300


pytestmark = [pytest.mark.slow, NEEDS_VLLM]


@pytest.fixture
def command(temporary):
    processes = []

    def run():
        line = [sys.executable, "-m", "roles.serve", "pocket", "--kv-cache-gib", str(MEMORY), "--logs", str(temporary / "logs")]
        processes.append(subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def fetch(url, path, key="", body=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def family(pid):
    """Every process below, and which of them is a vLLM server or its engine."""
    commands = {below: Path(f"/proc/{below}/cmdline").read_bytes() for below in descendants(pid)}
    return {
        "all": list(commands),
        "server": [pid for pid, command in commands.items() if b"api_server" in command],
        "engine": [pid for pid, command in commands.items() if command.startswith(b"VLLM::")],
    }


def wait_for_engine(pid, part="engine"):
    """The family once the engine is there, or the server; what that starts is on its way or there too."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            processes = family(pid)
            if processes[part]:
                return processes
        time.sleep(0.1)
    raise AssertionError(f"no {part} was started")


def left(temporary):
    return list(temporary.glob("gasp-serve-*"))


def test_what_serves_leaves_nothing_whoever_is_killed_or_stopped(temporary, command):
    first = command()
    printed = ""
    while "in a run:" not in printed:
        line = first.stdout.readline()
        assert line, first.stderr.read()
        printed += line
    url = re.search(r"http://127\.0\.0\.1:\d+", printed)[0]
    key = Path(re.search(r'"\$\(cat (\S+)\)"', printed)[1])
    assert key.stat().st_mode & 0o077 == 0 or key.parent.stat().st_mode & 0o077 == 0
    assert key.read_text() not in printed
    assert fetch(url, "/v1/models", key.read_text())[0] == 200

    # The supervisor is killed as well: what survives ends at the next start.
    survivors = wait_for_engine(first.pid)
    (supervisor,) = (
        pid for pid in survivors["all"] if b"roles.serving.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(supervisor, signal.SIGSTOP)
    first.kill()
    os.kill(supervisor, signal.SIGKILL)
    assert all_end([supervisor])
    assert any(process_start_time(pid) for pid in survivors["engine"])
    assert len(left(temporary)) == 1

    # The command alone is killed while its server starts (tests/graph/test_vllm.py: while it serves): its supervisor ends the rest.
    second = command()
    assert all_end(survivors["all"])
    below = wait_for_engine(second.pid, "server")
    assert len(left(temporary)) == 1
    second.kill()
    assert all_end(below["all"])
    assert not left(temporary)

    third = command()
    below = wait_for_engine(third.pid, "server")
    third.send_signal(signal.SIGINT)
    _, err = third.communicate(timeout=60)
    assert (third.returncode, err) == (130, "")
    assert all_end(below["all"])
    assert not left(temporary)
