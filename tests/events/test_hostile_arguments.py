"""Whatever a command is given, it ends in what it should do or in one sentence, never in a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.__main__ import app
from events.cli.app import expand_home, run_app
from events.trace import app as trace_app
from tests.support.paths import ROOT
from tests.support.viewer_client import record_run

NUMBERS = ["-1", "9" * 20, "9" * 400, str(2**63 - 1), str(2**63), "1.5", "x", ""]
WORDS = [
    "", "a\nb", "\x1b[31m", "\udcff", "x" * 10_000, "a " * 5_000, "' OR 1=1",
    "NEAR(", '"', "-", "kind:", "\U0010ffff", "~",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    record_run(folder).log.close()
    return folder


@pytest.fixture(scope="module")
def places(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Paths where no log is, and where none can be written."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("hello")
    (folder / "folder").mkdir()
    (folder / "full").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "half").mkdir()
    content = (run / "log.sqlite").read_bytes()
    (folder / "half" / "log.sqlite").write_bytes(content[: len(content) // 2])
    odd = Path(os.fsdecode(bytes(folder) + b"/o\xffdd"))
    odd.mkdir()
    shutil.copy(run / "log.sqlite", odd)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder / "full"], check=False).returncode == 0
    yield {
        **{name: str(folder / name) for name in ("file", "folder", "fifo", "loop", "dangling", "half", "new")},
        **{f"{name} in": str(folder / name / "x") for name in ("file", "folder", "full", "loop")},
        **{"odd": str(odd), "odd in": f"{odd}/x", "long": str(folder / ("x" * 300)), "deep": "/".join(["d"] * 3_000)},
        **{
            "null": "/dev/null",
            "empty": "",
            "proc": "/proc/x",
            "mem": "/proc/self/mem",
            "url": "postgresql://u@127.0.0.1:1/d?run=x",
        },
    }
    if mounted:
        subprocess.run(["umount", "--lazy", folder / "full"], check=True)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written into the project."""
    monkeypatch.chdir(tmp_path)


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> int:
    """How a command ends; what is no exit is a failure of the test."""
    monkeypatch.setattr(sys, "argv", ["x", *words[1:]] if words[0] == "trace" else ["x", *words])
    with pytest.raises(SystemExit) as end:
        run_app(trace_app if words[0] == "trace" else app)
    output = capsys.readouterr()
    assert end.value.code in (None, 0, 1, 2), words
    assert "Traceback" not in output.err
    if output.err.startswith("error: "):
        assert output.err.count("\n") == 1
        assert len(output.err) < 5_000
    assert not end.value.code or output.err or output.out
    return end.value.code or 0


PLACES = ["file", "folder", "fifo", "loop", "dangling", "half", "odd", "long", "deep", "null", "empty", "mem", "url"]
TARGETS = [
    "file", "file in", "full in", "fifo", "loop", "loop in", "dangling",
    "odd in", "long", "deep", "null", "empty", "proc",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_log_that_is_none(place: str, places: dict[str, str], run: Path, monkeypatch, capsys) -> None:
    log, new = places[place], f"{places['new']}-{place}".replace(" ", "-")
    for words in (
        *([command, log] for command in ("verify", "show", "tail", "stats", "list", "trace")),
        ["search", log, "x"],
        ["export", log, "--to", "jsonl", "--out", f"{new}-tables"],
        ["backup", log, f"{new}-backup"],
        ["repair", log, f"{new}-repair"],
        ["repair", log, f"{new}-repair", "--no-dry-run"],
        ["migrate", log, f"{new}-migrate"],
        ["merge", log, str(run), "--dry-run"],
        ["trace", log, "--answers", "run:1", "--attempt", "0"],
    ):
        ended(monkeypatch, capsys, *words)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_cannot_be_written(target: str, places: dict[str, str], run: Path, monkeypatch, capsys) -> None:
    place = places[target]
    for words in (
        ["backup", str(run), place],
        ["repair", places["half"], place, "--no-dry-run"],
        *(["export", str(run), "--to", to, "--out", place] for to in ("jsonl", "parquet", "otel")),
        ["merge", str(run), place],
    ):
        assert ended(monkeypatch, capsys, *words) or target in ("odd in", "dangling", "empty"), words
        if target == "odd in" and Path(place).exists():
            shutil.rmtree(place) if Path(place).is_dir() else Path(place).unlink()
    assert not list(Path(places["file"]).parent.glob("*.draft-*"))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_is_none_or_too_large(number: str, run: Path, monkeypatch, capsys) -> None:
    log = str(run)
    for words in (
        ["show", log, "--limit", number],
        ["show", log, "--after", number],
        ["tail", log, "-n", number],
        ["search", log, "x", "--limit", number],
        ["search", log, "x", "--before", number],
        ["search", log, f"tokens>{number}"],
        ["trace", log, "--attempt", number, "--answers", "episode/00001/000:3"],
        ["trace", log, "--attempt", "0", "--answers", f"episode/00001/000:{number}"],
        ["trace", log, "--episodes", number, "d0ee"],
    ):
        ended(monkeypatch, capsys, *words)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_names_nothing(word: str, run: Path, monkeypatch, capsys) -> None:
    log = str(run)
    for words in (
        ["search", log, word],
        ["show", log, "--stream", word],
        ["show", log, "--kind", word],
        ["tail", log, "--stream", word],
        ["verify", log, "--head", word],
        ["export", log, "--to", word],
        ["trace", log, word],
        ["trace", log, "--attempt", "0", "--answers", word],
    ):
        ended(monkeypatch, capsys, *words)


@pytest.mark.parametrize(
    ("shell", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">/dev/full", 1), ("| head -c 1 >/dev/null", 0)]
)
def test_output_that_nobody_takes(run: Path, shell: str, code: int) -> None:
    command = f"{sys.executable} -m events show {run} --limit 0 --json {shell}; echo ${{PIPESTATUS[0]}} >&3"
    ends = subprocess.run(["bash", "-c", f"exec 3>&1; {command}"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in ends.stderr
    assert ends.stderr.count("\n") == (shell == ">/dev/full")
    # A short output fits into the pipe, and the command line's own library ends with 1.
    assert int(ends.stdout.split()[-1]) in ({0, 1, 141} if "head" in shell else {code})


def test_a_tilde_is_the_home_wherever_it_begins_a_path(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(run, tmp_path / "run")
    for words in (
        ["verify", "~/run"],
        ["backup", "~/run", "~/backups/one"],
        ["export", "~/run", "--to", "jsonl", "--out=~/tables"],
        ["export", "~/run", "--to", "jsonl", "--out", "~/more"],
        ["trace", "~/run/log.sqlite"],
    ):
        assert ended(monkeypatch, capsys, *words) == 0
    assert {"backups", "tables", "more"} <= set(os.listdir(tmp_path))
    assert not (tmp_path / "~").exists()
    for word in ("a~b", "--set", "--set=model=~/x", "x=~/y", "--option=a~", "-n"):
        assert expand_home(word) == word
