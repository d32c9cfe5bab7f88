"""Several learning processes are one trainer: they start, learn and end together, however the run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from events.facts.types import PolicyUpdated
from events.stores import open_log
from graph.play.trainer_process import PROGRESS_FILE, last_progress
from tests.support.paths import ROOT
from tests.support.processes import PATIENCE_S, all_end, finish, running, start_run, wait_until
from trainer.learn.update_report import report_training

SMALL = (
    "play.iterations=1", "play.episodes=2", "play.practice=3", "play.practice_attempts=4", "play.attempts=4",
    "play.gap_attempts=4", "play.max_attempts=2", "evaluate.questions=1", "evaluate.attempts=1", "learn.processes=2", "learn.shard=zero3",
)  # fmt: skip


def lifetimes(run: Path) -> list[dict[str, object]]:
    path = run / "trainer.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in map(json.loads, lines) if "processes" in line]


@pytest.mark.docker
@pytest.mark.slow
def test_two_processes_learn_and_none_is_left_after_kill_9_of_the_run_or_of_one_of_them(tmp_path):
    run = tmp_path / "runs" / "two"
    killed = start_run(tmp_path / "runs", "--name", "two", settings=SMALL)
    wait_until(lambda: lifetimes(run), killed)
    trainers = running(killed.pid, "trainer.run")
    assert len(trainers) == 2
    killed.kill()
    killed.communicate()
    assert all_end(trainers)
    broken = start_run(tmp_path / "runs", "--resume", "two")
    wait_until(lambda: len(running(broken.pid, "trainer.run")) == 2 and len(lifetimes(run)) > 1, broken)
    trainers = running(broken.pid, "trainer.run")
    os.kill(trainers[1], signal.SIGKILL)
    _, err = broken.communicate(timeout=PATIENCE_S)
    assert (broken.returncode, err.count("\n")) == (1, 1), err
    assert "trainer ended" in err
    assert "killed by signal 9 (Killed)" in err
    assert all_end(trainers, 0)
    whole = start_run(tmp_path / "runs", "--resume", "two")
    wait_until(lambda: len(running(whole.pid, "trainer.run")) == 2, whole)
    trainers = running(whole.pid, "trainer.run")
    finish(whole)
    assert all_end(trainers, 0)
    assert {(line["processes"], line["stage"]) for line in lifetimes(run)} == {(2, 3)}
    with closing(open_log(run / "log.sqlite")) as log:
        assert log.verify() is None
        assert [event.fact.iteration for event in log.read() if isinstance(event.fact, PolicyUpdated)] == [1]


def test_a_trainer_ends_with_its_parent_whatever_it_waits_for():
    waits = "import os, time; from events.process.startup import die_with_parent; die_with_parent(os.getppid()); print('up', flush=True); time.sleep(600)"
    starts = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {waits!r}]); print(p.pid, flush=True); p.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", starts], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        assert parent.stdout.readline() == "up\n"
        parent.kill()
        parent.wait()
        wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, seconds=10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_what_the_trainer_does_is_a_line_in_the_runs_folder_whose_age_tells_that_it_is_stopped(tmp_path):
    assert last_progress(tmp_path) == ""
    with report_training(tmp_path, None) as activity, activity.task("tokens learned", 8) as task:
        task.add(3)
        wait_until(lambda: last_progress(tmp_path).startswith("tokens learned: 3 of 8"), seconds=20)
    assert not (tmp_path / PROGRESS_FILE).exists()
    (tmp_path / PROGRESS_FILE).write_text("saving the weights")
    os.utime(tmp_path / PROGRESS_FILE, (time.time() - 65, time.time() - 65))
    assert last_progress(tmp_path) == "it has said nothing for 1:05, and last: saving the weights"
