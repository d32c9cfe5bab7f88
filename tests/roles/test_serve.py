"""Real vLLM servers: healthy, behind a key, and gone with whoever started them, engine and worker processes included."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
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
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, said


def family(pid):
    """Every process below, by name as vLLM gives it."""
    names = {below: Path(f"/proc/{below}/cmdline").read_bytes().split(b"\0")[0].decode() for below in descendants(pid)}
    return {"engine": [pid for pid, name in names.items() if name.startswith("VLLM::")], "all": list(names)}


def wait_for_engine(pid):
    """The family once the engine is there, its worker being on its way or there too."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            found = family(pid)
        except OSError:
            continue
        if found["engine"]:
            return found
        time.sleep(0.2)
    raise AssertionError("no engine was started")


def left(temporary):
    return list(temporary.glob("gasp-serve-*"))


def test_the_command_serves_and_when_it_is_killed_nothing_is_left(temporary, command):
    process = command()
    said = ""
    while "in a run:" not in said:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        said += line
    url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
    key = Path(re.search(r'"\$\(cat (\S+)\)"', said)[1])
    assert key.stat().st_mode & 0o077 == 0 or key.parent.stat().st_mode & 0o077 == 0
    assert key.read_text() not in said
    assert fetch(url, "/v1/models", key.read_text())[0] == 200
    ours = wait_for_engine(process.pid)
    process.kill()
    assert all_end(ours["all"])
    assert not left(temporary)


@pytest.mark.endurance
def test_what_survives_a_killed_supervisor_ends_at_the_next_start_and_ctrl_c_leaves_nothing(temporary, command):
    first = command()
    ours = wait_for_engine(first.pid)
    (supervisor,) = (pid for pid in ours["all"] if b"roles.serving.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(supervisor, signal.SIGSTOP)
    first.kill()
    os.kill(supervisor, signal.SIGKILL)
    assert all_end([supervisor])
    assert any(process_start_time(pid) for pid in ours["engine"])
    assert len(left(temporary)) == 1

    second = command()
    assert all_end(ours["all"])
    new = wait_for_engine(second.pid)
    assert len(left(temporary)) == 1
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (130, "")
    assert all_end(new["all"])
    assert not left(temporary)
