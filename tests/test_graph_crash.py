"""kill -9 of every part of a real run at random moments, then `--resume`: complete, nothing lost or doubled, nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from events.stores import open_log
from events.types import (
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

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
SMALL = {
    "play.iterations": 4,
    "play.episodes": 4,
    "play.practice": 4,
    "play.practice_attempts": 4,
    "evaluate.questions": 6,
    "evaluate.attempts": 2,
}
VICTIMS = ("graph.run", "trainer.run", "container", "engine")
KILLS = 12


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder for runs and a private engine of its own, which dies with the test."""
    if os.geteuid() != 0:
        pytest.skip("a private engine needs root")
    monkeypatch.setenv("GASP_ENGINE", str(tmp_path / "engine"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    from sandbox.engine import DEFAULT_URL, Engine, answers

    if answers(DEFAULT_URL):
        pytest.skip("this machine's own engine must not be killed")
    yield tmp_path
    Engine.default().purge()


def command(world: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "graph.run", "--plain", "--runs", str(world / "runs"), *arguments]


def processes(world: Path, what: str) -> list[psutil.Process]:
    """Live processes of this test's run or engine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        mine = str(world) in line or (what == "sandbox.inside" and in_engine(world, process))
        if mine and what in line:
            found.append(process)
    return found


def in_engine(world: Path, process: psutil.Process) -> bool:
    try:
        return any(str(world) in " ".join(parent.cmdline()) for parent in process.parents())
    except psutil.Error:
        return False


def strike(world: Path, victim: str) -> bool:
    """kill -9 one part; False when it is not there at the moment."""
    what = {"container": "sandbox.inside", "engine": "dockerd"}.get(victim, victim)
    found = processes(world, what)
    for process in found[:1]:
        process.send_signal(signal.SIGKILL)
    return bool(found)


def test_a_run_survives_kill_9_of_every_part(world):
    chance = random.Random(0)
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--name", "x", *settings]
    struck: Counter[str] = Counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(60):
        process = subprocess.Popen(
            command(world, *arguments), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        arguments = ["--resume", "x"]
        deadline = time.monotonic() + (12 + 14 * chance.random() if struck.total() < KILLS else 400)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is None:
            victim = VICTIMS[struck.total() % len(VICTIMS)]
            struck[victim] += strike(world, victim)
            if victim == "graph.run":
                process.wait(timeout=30)
            elif victim == "container":
                continue_until = time.monotonic() + 5
                while process.poll() is None and time.monotonic() < continue_until:
                    time.sleep(0.05)
                process.kill()
        out, err = process.communicate(timeout=200)
        assert b"Traceback" not in err, err.decode()
        if process.returncode == 0:
            break
    assert process.returncode == 0, (out + err).decode()
    assert set(struck) == set(VICTIMS), struck
    check(world / "runs" / "x")
    time.sleep(1)
    assert not processes(world, "graph.run")
    assert not processes(world, "trainer.run")
    assert not processes(world, "sandbox.inside")


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
    assert all(update.after == before.until for before, update in zip(updates, updates[1:], strict=False))
    assert all(update.parent == before.digest for before, update in zip(updates, updates[1:], strict=False))
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
