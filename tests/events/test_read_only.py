"""A log can be read where nothing can be written: on a read-only file system, without a home, by who has no account."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.errors import LogError
from events.stores import open_log
from tests.support.log_contract import episode_failed
from tests.support.paths import ROOT
from tests.support.viewer_client import record_run

NOBODY = 54_321


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose writer was killed: what was appended last is in its write-ahead file."""
    folder = tmp_path_factory.mktemp("recorded")
    record_run(folder / "run").log.close()
    code = "import os, sys; from pathlib import Path; from events.stores import open_log\n"
    code += "from tests.support.log_contract import episode_failed\n"
    code += "open_log(Path(sys.argv[1])).append('late', [episode_failed()]); os.kill(os.getpid(), 9)"
    shutil.copytree(folder / "run", folder / "killed")
    subprocess.run([sys.executable, "-c", code, str(folder / "killed" / "log.sqlite")], cwd=ROOT, check=False)
    assert (folder / "killed" / "log.sqlite-wal").stat().st_size
    return folder


@pytest.fixture(scope="module")
def mounted(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same on a read-only file system."""
    place = tmp_path_factory.mktemp("mounted")
    if subprocess.run(["mount", "--bind", recorded, place], check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def nobody(*commands: tuple[object, ...], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Run modules as somebody without an account, a home or a right to write; what is imported counts as the first one's."""
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights]
    python = ["env", "-i", "PATH=/usr/bin:/bin", *(f"{name}={value}" for name, value in environment.items()), sys.executable]
    words = json.dumps([list(map(str, command)) for command in commands])
    line = [*who, *python, "-m", "tests.support.forked_cli", words]
    lines = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [subprocess.CompletedProcess(command, *json.loads(line)) for command, line in zip(commands, lines, strict=True)]


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everybody can write."""
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


@pytest.mark.parametrize("run", ["run", "killed"])
def test_every_reading_command_works_on_a_read_only_file_system(mounted: Path, open_folder: Path, run: str) -> None:
    log = mounted / run
    events = 124 if run == "run" else 125
    reading: dict[tuple[object, ...], str] = {
        ("events", "verify", log): f"sound: {events} events",
        ("events", "backup", log, open_folder / "backup.sqlite"): f"{events} events",
    }
    others: dict[tuple[object, ...], str] = {
        ("events", "stats", log): f"{events} events",
        ("events", "tail", log, "-n", 1): f" {events}  ",
        ("events", "search", log, "def", "--limit", 1): "practice",
        ("events", "list", mounted): "run",
        ("events", "export", log, "--to", "jsonl", "--out", open_folder / "tables"): "exported",
        ("events", "repair", log, mounted / "new"): f"sound: {events} events",
        ("events.trace", log): "goalposts",
    }
    commands = reading if run == "killed" else reading | others
    for ended in nobody(*commands, TMPDIR=str(open_folder)):
        assert ended.returncode == 0, ended.stderr
        assert commands[ended.args] in ended.stdout
    assert not list(open_folder.glob("gasp-log-*"))
    with closing(open_log(open_folder / "backup.sqlite")) as backup:
        assert backup.head().position == events


def test_what_cannot_be_written_is_one_sentence(mounted: Path, open_folder: Path) -> None:
    log = mounted / "run"
    for ended in nobody(
        ("events", "backup", log, mounted / "b"),
        ("events", "repair", log, mounted / "r", "--no-dry-run"),
        ("events", "migrate", log, mounted / "m"),
        ("events", "export", log, "--to", "jsonl", "--out", mounted / "e"),
    ):
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: The ")
        assert "Read-only file system" in ended.stderr
        assert ended.stderr.count("\n") == 1
    search = ("events", "search", log, "def")
    (ended,) = nobody(search, XDG_CACHE_HOME=str(mounted))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "set XDG_CACHE_HOME to a folder that you can write" in ended.stderr
    (open_folder / f"gasp-{NOBODY}").symlink_to("/")
    (ended,) = nobody(search, TMPDIR=str(open_folder))
    assert "is not a folder that only you can write" in ended.stderr


@pytest.mark.parametrize("to", ["mlflow", "plots"])
def test_libraries_that_look_for_a_home_find_one(mounted: Path, open_folder: Path, to: str) -> None:
    command = ["plot", mounted / "run"] if to == "plots" else ["export", mounted / "run", "--to", to]
    (ended,) = nobody(("events", *command, "--out", open_folder / "out"), TMPDIR=str(open_folder))
    assert ended.returncode == 0, ended.stderr


def test_a_read_only_log_that_somebody_writes_from_elsewhere_is_followed(mounted: Path, recorded: Path) -> None:
    shutil.copytree(recorded / "run", recorded / "live")
    with closing(open_log(mounted / "live" / "log.sqlite", read_only=True)) as reading:
        before = reading.head().position
        with closing(reading.subscribe()) as subscription, closing(open_log(recorded / "live" / "log.sqlite")) as writing:
            for number in range(3):
                writing.append("late", [episode_failed(f"{number}")])
                assert subscription.wait(5)
                assert reading.head().position == before + number + 1
        assert reading.verify() is None
        assert [event.position for event in reading.read("late")] == [before + 1, before + 2, before + 3]
        with pytest.raises(LogError, match="is read-only"):
            reading.append("late", [episode_failed()])


def test_a_log_in_a_folder_of_somebody_else_is_read_and_left_as_it_is(recorded: Path, open_folder: Path) -> None:
    shutil.copytree(recorded / "run", open_folder / "theirs")
    (open_folder / "theirs").chmod(0o755)
    (ended,) = nobody(("events", "verify", open_folder / "theirs"))
    assert ended.stdout.startswith("sound: 124 events"), ended.stderr
    assert os.listdir(open_folder / "theirs") == ["log.sqlite"]
    with closing(sqlite3.connect(open_folder / "theirs" / "log.sqlite")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
