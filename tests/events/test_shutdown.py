"""Commands are stopped without a traceback at any moment, and whatever their terminal is like."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from events.process.console import DetachableStream
from events.stores import open_log
from tests.support.example_runs import example_run
from tests.support.paths import ROOT

COMMANDS = (
    ["graph.run", "--plain"],
    ["graph.goalposts", "pocket", "--out", "x.jsonl"],
    ["trainer.run", "nothing"],
    ["trainer.evaluate", "pocket"],
    ["trainer.experiment", "--smoke"],
    ["events.web", "."],
    ["events", "show", "nothing"],
    ["events.trace", "nothing"],
    ["roles.serve", "nothing"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_that_still_imports_is_stopped_without_a_word(command, tmp_path):
    for number, module in ((signal.SIGINT, "events"), (signal.SIGTERM, "rich.console")):
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        while process.stderr.readline().rpartition("|")[2].strip() not in (module, ""):
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        errors = [line for line in err.splitlines() if not line.startswith("import time:")]
        assert (process.returncode, out, errors) == (128 + number, "", []), module


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        example_run(log).run().goalpost().play().evaluate()
    return folder


VIEWS = (["events.trace"], ["events", "show"], ["events", "stats"])
TERMINALS = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "iso-8859-1", "COLUMNS": "20"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TERM": "dumb", "COLUMNS": "1"},
)


def shown(words: list[str], run: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    module, *options = words
    command = " ".join([sys.executable, "-m", module, *options, str(run), redirect])
    command = f"set -o pipefail; {command}"
    environment = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


@pytest.mark.parametrize("environment", TERMINALS, ids=str)
def test_any_terminal_shows_a_run(run, environment):
    for words in VIEWS:
        done = shown(words, run, **environment)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), words
        assert done.stdout


@pytest.mark.parametrize(("redirect", "codes"), [(">&-", {0}), ("2>&-", {0}), (">&- 2>&- <&-", {0}), ("| head -1", {0, 141})])
def test_closed_streams_and_early_ends_are_no_errors(run, redirect, codes):
    for words in VIEWS[:2]:
        done = shown(words, run, redirect)
        assert done.returncode in codes, done.stderr
        assert "Traceback" not in done.stderr + done.stdout


def test_an_enduring_stream_outlives_its_terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="ascii", errors="replace") as window:
        stream = DetachableStream(window)
        assert stream.isatty()
        assert stream.write("before") == 6
        os.close(ours)
        assert [stream.write("after the hang-up") for _ in range(2)] == [17, 17]
