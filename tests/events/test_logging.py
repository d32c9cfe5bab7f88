"""Operational logs: a line is one line, says where it belongs, and holds no secret, whatever goes wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from events.cli.app import print_error
from events.facts.errors import BadInput, LogError, SandboxError
from events.text.logging import configure, log_lifetime, logger
from events.text.secrets import mask
from tests.support.paths import ROOT

SECRET = "s3cr3t-of-mine"
HOSTILE = "fine\n2026-01-01T00:00:00Z [error    ] forged run=other\r\x1b[2J\x1b]0;owned\x07\u202e\x85\u2028forged"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves logging set up for the next."""
    for name in ("GASP_LOG_FORMAT", "GASP_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that is logged to, in each format."""
    monkeypatch.setenv("GASP_LOG_FORMAT", request.param)
    configure(file=tmp_path / "run.log", run="pocket")
    return tmp_path / "run.log"


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_line_names_its_run_and_what_is_bound(tmp_path: Path) -> None:
    configure(file=tmp_path / "run.log", run="pocket")
    with structlog.contextvars.bound_contextvars(episode="episode/00001/002", node="solver"):
        logger().info("asked", tokens=5)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(logger().info, "from a thread").result()
    first, second = lines(tmp_path / "run.log")
    named = {"run": "pocket", "episode": "episode/00001/002", "node": "solver", "level": "info", "tokens": 5}
    assert first == named | {"event": "asked", "timestamp": first["timestamp"]}
    assert (second["event"], second["run"]) == ("from a thread", "pocket")


def test_a_second_process_appends(tmp_path: Path) -> None:
    for event in ("one", "two"):
        configure(file=tmp_path / "run.log")
        logger().info(event)
    assert [line["event"] for line in lines(tmp_path / "run.log")] == ["one", "two"]


def test_without_a_file_it_is_for_people_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure(run="pocket")
    logger().info("served", policy="abc")
    out, err = capsys.readouterr()
    assert out == ""
    assert "served policy=abc run=pocket" in err
    assert "\x1b" not in err


def test_a_program_that_configures_nothing_logs_nothing() -> None:
    code = "from events.text.logging import logger; logger().error('heard', why=1)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_environment_chooses_level_and_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GASP_LOG_LEVEL", "warning")
    configure(file=tmp_path / "run.log")
    logger().info("hidden")
    logger().warning("shown")
    assert [line["event"] for line in lines(tmp_path / "run.log")] == ["shown"]
    monkeypatch.setenv("GASP_LOG_FORMAT", "xml")
    with pytest.raises(BadInput, match="GASP_LOG_FORMAT=xml is not known; use json or console"):
        configure()


def test_hostile_text_neither_forges_a_line_nor_moves_the_cursor(written: Path) -> None:
    logger().info(HOSTILE, why=HOSTILE, deep={"in": [HOSTILE]}, error=SandboxError(HOSTILE))
    try:
        raise SandboxError(HOSTILE)
    except SandboxError:
        logger().exception("failed")
    text = written.read_text()
    assert not set(text) & set("\x1b\x07\r\x85\u2028\u202e")
    starts = [line for line in text.split("\n") if line and not line.startswith("    ")]
    assert len(starts) == 2
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in starts)


SECRETS = {
    "api_key": SECRET,
    "headers": {"Authorization": f"Bearer {SECRET}"},
    "url": f"postgresql://me:{SECRET}@host/db?run=x",
    "urls": [f"see https://me:{SECRET}@host/path", f"host=h password='{SECRET}' user=me"],
    "query": f"postgresql://host/db?password={SECRET}&run=x",
    "error": LogError(f"no answer from postgresql://me:{SECRET}@host/db"),
    "from_environment": f"the token is {SECRET}.",
    "said": f"Authorization: Bearer {SECRET}",
}


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_written(written: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "from_environment":
        monkeypatch.setenv("HF_TOKEN", SECRET)
    logger().info("told", **{name: SECRETS[name]})
    assert "told" in written.read_text()
    assert "***" in written.read_text()
    assert SECRET not in written.read_text()


def test_no_traceback_holds_a_secret(written: Path) -> None:
    password = SECRET
    try:
        raise LogError(f"cannot reach postgresql://me:{password}@host/db") from ValueError(f"password={password}")
    except LogError:
        logger().exception("failed")
    assert "cannot reach postgresql://me:***@host/db" in written.read_text()
    assert SECRET not in written.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "4 tokens, 0.05 s",
        "postgresql://me@host/db?run=x",
        "episode/00001/002 at 12:30",
        "token ids 1 2 3",
        "http://localhost:8000/v1",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_a_command_never_says_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    print_error(BadInput(f"There is no log at postgresql:/me:{SECRET}@host; and postgresql://me:{SECRET}@host"))
    assert SECRET not in sys.stderr.getvalue()


def test_the_life_of_a_process_is_told_with_its_end(tmp_path: Path) -> None:
    configure(file=tmp_path / "run.log")
    with log_lifetime("run", position=3):
        pass
    for error in (LogError("no server"), KeyboardInterrupt(), ZeroDivisionError("a bug")):
        with pytest.raises(type(error)), log_lifetime("run"):
            raise error
    log_lines = lines(tmp_path / "run.log")
    assert [line["event"] for line in log_lines] == ["run_started", "run_ended"] + ["run_started", "run_stopped"] * 3
    assert log_lines[0]["position"] == 3
    assert [(line["error"], line["message"], "exception" in line) for line in log_lines[3::2]] == [
        ("LogError", "no server", False),
        ("KeyboardInterrupt", "", False),
        ("ZeroDivisionError", "a bug", True),
    ]
