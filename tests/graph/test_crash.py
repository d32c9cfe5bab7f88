"""kill -9 of every part of a real run at random moments, then `--resume`: complete, nothing lost or doubled, nothing left."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFinished,
    EpisodeStarted,
    IterationFinished,
    IterationStarted,
    PolicyUpdated,
    QuestionProposed,
    RewardGiven,
)
from events.stores import open_log
from sandbox.engine import engine
from tests.support.paths import ROOT
from tests.support.private_engine import private_engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SMALL = {
    "play.iterations": 6, "play.episodes": 4, "play.practice": 4,
    "play.practice_attempts": 4, "evaluate.questions": 6, "evaluate.attempts": 2,
}  # fmt: skip
VICTIMS = ("trainer.run", "container", "engine", "graph.run")
"""What is killed, one after the other."""
LAUNCHES = 20


@pytest.fixture
def world(monkeypatch):
    """A folder for runs and a private engine of its own, which dies with the test."""
    if engine.is_answering(engine.DEFAULT_URL):
        pytest.skip("this machine's own engine must not be killed")
    with private_engine(image=True) as private:
        monkeypatch.setenv("GASP_ENGINE", str(private.data.parent))
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        yield private.data.parent


def command(world: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "graph.run", "--plain", "--runs", str(world / "runs"), *arguments]


def processes(world: Path, what: str) -> list[psutil.Process]:
    """Live processes of this test's run or engine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        mine = str(world) in line or (what == "sandbox.guest.fork_server" and in_engine(world, process))
        if mine and what in line:
            found.append(process)
    return found


def in_engine(world: Path, process: psutil.Process) -> bool:
    try:
        return any(str(world) in " ".join(parent.cmdline()) for parent in process.parents())
    except psutil.Error:
        return False


def kill_part(world: Path, victim: str, run: int) -> bool:
    """kill -9 one part of the run that this process plays; False when it is not there at the moment."""
    # A trainer whose parent was killed lives until it looks for it, which it does not while its libraries load.
    what = {"container": "sandbox.guest.fork_server", "engine": "dockerd", "trainer.run": f"--parent {run}"}.get(victim, victim)
    found = processes(world, what)
    for process in found[:1]:
        process.send_signal(signal.SIGKILL)
    return bool(found)


def test_a_run_survives_kill_9_of_every_part(world):
    chance = random.Random(0)
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--name", "x", *settings]
    struck: list[str] = []
    seen = 0
    for _ in range(LAUNCHES):
        process = subprocess.Popen(command(world, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and len(struck) < len(VICTIMS):
            seen = wait_for_progress(world, process, seen)
            wait(process, 3 * chance.random())
            victim = VICTIMS[len(struck)]
            if process.poll() is None and kill_part(world, victim, process.pid):
                struck.append(victim)
                wait(process, 60 if victim != "container" else 0)
        out, err = process.communicate(timeout=300)
        assert b"Traceback" not in err, err.decode()
        if process.returncode == 0:
            break
        arguments = ["--resume", "x"] if (world / "runs" / "x").exists() else arguments
    assert process.returncode == 0, (out + err).decode()
    assert tuple(struck) == VICTIMS
    check(world / "runs" / "x")
    wait_for_nobody(world)


def wait_for_progress(world: Path, process: subprocess.Popen[bytes], seen: int) -> int:
    """Until the log has grown by a step of play since the last strike; then where it is."""
    path = world / "runs" / "x" / "log.sqlite"
    while process.poll() is None:
        if path.exists():
            with contextlib.closing(open_log(path)) as log:
                position = log.head().position
            if position > seen + 8:
                return position
        time.sleep(0.2)
    return seen


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the process ends, or that long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


def wait_for_nobody(world: Path) -> None:
    """No process of the run is left; the trainer may take a moment to see that its parent is gone."""
    for what in ("graph.run", "trainer.run", "sandbox.guest.fork_server"):
        deadline = time.monotonic() + 10
        while (left := processes(world, what)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, what


def check(folder: Path) -> None:
    """Nothing lost, nothing doubled, nothing trained twice."""
    log = open_log(folder / "log.sqlite")
    assert log.verify() is None
    events = list(log.read())
    log.close()
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    iterations = range(1, SMALL["play.iterations"] + 1)
    for kind in (IterationStarted, IterationFinished):
        assert [event.fact.iteration for event in events if isinstance(event.fact, kind)] == list(iterations)
    updates = [event.fact for event in events if isinstance(event.fact, PolicyUpdated)]
    assert [update.iteration for update in updates] == list(iterations)
    assert all(update.after == before.until for before, update in itertools.pairwise(updates))
    assert all(update.parent == before.digest for before, update in itertools.pairwise(updates))
    assert sum(event.fact.kind == "run_finished" for event in events) == 1
    streams = {event.stream for event in events if event.stream.startswith("episode/")}
    assert len(streams) == len(iterations) * (SMALL["play.episodes"] + SMALL["play.practice"])
    for stream in streams:
        check_episode([event for event in events if event.stream == stream])


def check_episode(events: list) -> None:
    facts = [event.fact for event in events]
    assert isinstance(facts[0], EpisodeStarted)
    assert isinstance(facts[-1], EpisodeFinished)
    assert sum(isinstance(fact, EpisodeStarted | EpisodeFinished) for fact in facts) == 2
    made = [event.version for event in events if isinstance(event.fact, AttemptsMade)]
    assert [fact.of for fact in facts if isinstance(fact, AttemptsVerified)] == made
    proposals = [(fact.seat, fact.attempt) for fact in facts if isinstance(fact, QuestionProposed)]
    assert len(set(proposals)) == len(proposals)
    rewarded = [fact.of for fact in facts if isinstance(fact, RewardGiven)]
    assert len(set(rewarded)) == len(rewarded)
