"""Commands end in one sentence, politely, with the exit code that a shell expects."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from events.cli.app import locate_log
from events.facts.errors import BadInput
from events.stores import open_log
from tests.support.example_runs import example_run
from tests.support.forked_cli import run_forked
from tests.support.paths import ROOT


def events(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_forked("events", *arguments)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    log = open_log(tmp_path / "log.sqlite", create=True)
    example_run(log).run().goalpost().play()
    log.close()
    return tmp_path


def test_verify_says_that_a_log_is_sound_and_gives_its_head(run: Path) -> None:
    ended = events("verify", run)
    head = open_log(run / "log.sqlite").head()
    assert (ended.returncode, ended.stdout) == (0, f"sound: {head.position} events, head {head.digest}\n")
    assert events("verify", run / "log.sqlite", "--head", head.digest).returncode == 0


def test_verify_compares_with_a_published_head(run: Path) -> None:
    ended = events("verify", run, "--head", "0" * 64)
    assert ended.returncode == 1
    assert ended.stdout.startswith("another log: it is sound, but its head is")


def test_verify_names_a_broken_position_and_fails(run: Path) -> None:
    db = sqlite3.connect(run / "log.sqlite")
    db.executescript("DROP TRIGGER events_no_delete; DELETE FROM events WHERE position = 4")
    db.close()
    ended = events("verify", run)
    assert (ended.returncode, ended.stdout) == (1, "broken at position 4: the event is missing; the next one is at 5\n")


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "There is no log at"), (b"x" * 5000, "is not a GASP log; give the directory")]
)
def test_bad_input_is_one_sentence_on_stderr(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "log.sqlite").write_bytes(content)
    ended = events("verify", tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_verify_tells_of_what_no_hash_covers(run: Path) -> None:
    with closing(sqlite3.connect(run / "log.sqlite")) as db, db:
        db.execute("INSERT INTO blobs VALUES (?, 1, x'00')", ("0" * 64,))
    ended = events("verify", run)
    assert ended.returncode == 0
    assert "1 blob is named by no event" in ended.stdout
    with closing(sqlite3.connect(run / "log.sqlite")) as db, db:
        text = db.execute("SELECT sql FROM sqlite_master WHERE name = 'events_no_update'").fetchone()[0]
        db.executescript("DROP TRIGGER blobs_no_delete; DROP TRIGGER events_no_update")
        db.execute(text.replace("no update on", "none on"))
    ended = events("verify", run)
    assert ended.returncode == 1
    assert ended.stdout.startswith("sound: ")
    assert "the triggers events_no_update, blobs_no_delete are missing or changed" in ended.stdout
    output = json.loads(events("verify", run, "--json").stdout)
    assert (output["sound"], len(output["remarks"]), output["lost"]) == (True, 2, [])


@pytest.mark.parametrize("evidence", ["shm", "index", "log", "nothing"])
def test_a_lost_write_ahead_file_is_not_called_sound(tmp_path: Path, evidence: str) -> None:
    code = "import os, sys, pathlib; from tests.support.example_runs import example_run; from events.stores import open_log\n"
    code += "example_run(open_log(pathlib.Path(sys.argv[1]), create=True)).run().goalpost(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log.sqlite")], cwd=ROOT, check=False)
    assert (tmp_path / "log.sqlite-wal").stat().st_size
    if evidence == "index":
        shutil.copytree(tmp_path, tmp_path / "copy")
        events("search", tmp_path / "copy", "x")
        shutil.copy(tmp_path / "copy" / "index.sqlite", tmp_path)
    if evidence == "log":
        (tmp_path / "trainer.log").write_text('{"event": "update_started", "until": 2}\n')
    (tmp_path / "log.sqlite-wal").unlink()
    if evidence != "shm":
        (tmp_path / "log.sqlite-shm").unlink()
    ended = events("verify", tmp_path)
    assert ended.returncode == 1
    assert ended.stdout.startswith("empty: 0 events")
    messages = {
        "shm": "log.sqlite-shm is there without",
        "index": "index.sqlite names position",
        "log": "trainer.log names position 2",
    }
    assert messages.get(evidence, "") in ended.stdout


def test_who_names_a_folder_of_runs_or_leaves_it_out_is_told_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "run-001").mkdir(parents=True)
    (tmp_path / "runs" / "run-001" / "log.sqlite").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"at runs/log\.sqlite; the folder holds 1 run, give one, such as runs/run-001.$"):
        locate_log("runs")
    with pytest.raises(BadInput, match=r"^There is no log at run-001; do you mean runs/run-001\?$"):
        locate_log("run-001")


def test_a_wrong_option_is_told_without_a_traceback() -> None:
    ended = events("verify", "--nope")
    assert ended.returncode == 2
    assert "No such option" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_closed_pipe_ends_a_command_quietly(run: Path) -> None:
    command = f"{sys.executable} -m events.trace {run} --json | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stderr == ""
    assert ended.stdout.strip() in {"1", "141"}


APP = """
import asyncio, sys, typer
from events.cli.app import run_app
from events.facts.errors import SandboxError
app = typer.Typer()
@app.command()
def main(what: str) -> None:
    if what == "wait":
        print("ready", flush=True)
        asyncio.run(asyncio.sleep(60))
    elif what == "raise":
        raise SandboxError("the engine\\n\\x1b[31mis gone; start it")
    elif what == "bug":
        raise ZeroDivisionError
run_app(app)
"""


def test_ctrl_c_ends_a_command_quietly_with_130() -> None:
    process = subprocess.Popen([sys.executable, "-c", APP, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_an_error_of_ours_is_one_clean_line_and_a_bug_is_a_traceback() -> None:
    ours = subprocess.run([sys.executable, "-c", APP, "raise"], capture_output=True, text=True, check=False)
    assert (ours.returncode, ours.stderr) == (1, "error: the engine \ufffd[31mis gone; start it\n")
    bug = subprocess.run([sys.executable, "-c", APP, "bug"], capture_output=True, text=True, check=False)
    assert bug.returncode == 1
    assert "ZeroDivisionError" in bug.stderr
