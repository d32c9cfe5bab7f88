"""kill -9 of every part of a real run at random moments, then `--resume`: complete, nothing lost or doubled, nothing left."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from functools import partial
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
from tests.support.private_engine import private_engine
from tests.support.processes import all_end, running, start_run, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SMALL = {
    "play.iterations": 3, "play.episodes": 4, "play.practice": 4,
    "play.practice_attempts": 4, "play.attempts": 4, "play.gap_attempts": 4, "play.max_attempts": 2,
    "evaluate.questions": 3, "evaluate.attempts": 2,
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


def processes(world: Path, victim: str, run: int) -> list[int]:
    """Live processes of a part of the run, or of the engine that is this test's own."""
    if victim == "graph.run":
        return [run]
    if victim == "trainer.run":
        return running(run, victim)
    what = {"container": "sandbox.guest.fork_server", "engine": "dockerd"}[victim]
    return [process.pid for process in psutil.process_iter() if of_engine(world, process, what)]


def of_engine(world: Path, process: psutil.Process, what: str) -> bool:
    try:
        family = [process, *(process.parents() if what != "dockerd" else [])]
        return what in " ".join(process.cmdline()) and any(str(world) in " ".join(each.cmdline()) for each in family)
    except psutil.Error:
        return False


def test_a_run_survives_kill_9_of_every_part(world):
    chance = random.Random(0)
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    start = partial(start_run, world / "runs", "--name", "x", settings=settings)
    struck: list[str] = []
    trainers: set[int] = set()
    seen = 0
    for _ in range(LAUNCHES):
        process = start()
        wait_until(lambda process=process: running(process.pid, "trainer.run") or process.poll() is not None)
        trainers |= {*running(process.pid, "trainer.run")}
        while process.poll() is None and len(struck) < len(VICTIMS):
            seen = wait_for_progress(world, process, seen)
            wait(process, 2 * chance.random())
            victim = VICTIMS[len(struck)]
            if process.poll() is None and (victims := processes(world, victim, process.pid)):
                os.kill(victims[0], signal.SIGKILL)
                struck.append(victim)
                wait(process, 60 if victim != "container" else 0)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        if process.returncode == 0:
            break
        if (world / "runs" / "x").exists():
            start = partial(start_run, world / "runs", "--resume", "x")
    assert process.returncode == 0, out + err
    assert tuple(struck) == VICTIMS
    check(world / "runs" / "x")
    # A trainer may take a moment to see that its parent is gone.
    assert all_end(trainers, 10)
    wait_until(lambda: not processes(world, "container", 0), seconds=10)


def wait_for_progress(world: Path, process: subprocess.Popen[str], seen: int) -> int:
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


def wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Until the process ends, or that long."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


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
