"""The trainer as a process: reproducible, alone on its run, and safe to kill."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.log import Log
from events.facts.types import PolicyUpdated
from events.facts.weights import weights_digest
from events.reports.learning import step_header
from events.stores import open_log
from events.stores.memory import MemoryLog
from tests.support.forked_commands import ForkingPopen
from tests.support.paths import ROOT
from tests.support.processes import start_command, wait_until
from tests.support.tiny_model import TinyModelRun, tiny_weights
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn.loop import Trainer

ITERATIONS = 6
KILLS = 9
PATIENCE_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def played_run(tmp_path_factory) -> Path:
    """A run of some iterations that nobody has learned from."""
    return play(tmp_path_factory.mktemp("played"), iterations=ITERATIONS)


def play(run: Path, *, iterations: int, finish: bool = True) -> Path:
    """A synchronous run, of which nobody in its log has learned yet: a copy was, so that each iteration has its weights."""
    store = run / "weights"
    store.mkdir(parents=True, exist_ok=True)
    digest = tiny_weights(store)
    with closing(open_log(run / "log.sqlite", create=True)) as log, tempfile.TemporaryDirectory() as copy:
        stores = Path(shutil.copytree(store, Path(copy) / "weights"))
        scenes = [TinyModelRun(each, store, digest).run(learn={"staleness": 0}).goalpost(2) for each in (log, MemoryLog())]
        trainer = Trainer(scenes[1].log, Path(copy), UpdateSchedule(scenes[1].log, next(scenes[1].log.read("run")).fact))
        for _ in range(iterations):
            for example in scenes:
                example.start(3).episode(lemma=3).episode(lift=None).practice().finish()
            [event] = trainer.catch_up()
            for example in scenes:
                example.load_weights(stores, event.fact.digest)
        if finish:
            scenes[0].end()
    return run


@pytest.fixture
def copy(played_run, tmp_path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        shutil.copytree(played_run, tmp_path / name)
        return tmp_path / name

    return copied


@pytest.fixture(scope="module")
def straight(played_run, tmp_path_factory) -> Path:
    """The run, after a trainer that nothing interrupted."""
    run = shutil.copytree(played_run, tmp_path_factory.mktemp("straight") / "run")
    assert train(run) == 0
    return run


@pytest.fixture(scope="module")
def uninterrupted(straight) -> list[PolicyUpdated]:
    return updates(straight)


def updates(run: Path) -> list[PolicyUpdated]:
    with closing(open_log(run / "log.sqlite")) as log:
        facts = [event.fact for event in log.read("policy/shared")]
    return [fact for fact in facts if isinstance(fact, PolicyUpdated)]


def start_trainer(run: Path, *args: str, **environment: str) -> subprocess.Popen[bytes]:
    """A forked trainer that prints to the file `screen` of the run."""
    command = [sys.executable, "-m", "trainer.run", str(run), *args]
    with (run / "screen").open("a") as screen:
        return ForkingPopen(command, cwd=ROOT, stdout=screen, stderr=screen, env={**os.environ, **environment})


def train(run: Path, *args: str) -> int:
    return start_trainer(run, *args).wait(PATIENCE_S * 3)


def test_two_processes_make_the_same_bits(copy, straight) -> None:
    run = copy("other")
    process = start_command("trainer.run", run, fresh=False)
    _, lines = process.communicate(timeout=PATIENCE_S * 3)
    assert process.returncode == 0
    one, other = updates(straight), updates(run)
    assert one == other
    assert len({update.digest for update in one}) == ITERATIONS
    optimizers = [(folder / "weights" / one[-1].digest / "optimizer.moments").read_bytes() for folder in (straight, run)]
    assert optimizers[0] == optimizers[1]
    iterations = [line.split()[0] for line in spoken(lines)[1:] if not line.startswith("warning: ")]
    assert list(dict.fromkeys(iterations)) == [str(n + 1) for n in range(ITERATIONS)]
    logged = [json.loads(line) for line in (run / "trainer.log").read_text().splitlines()]
    assert [line["iteration"] for line in logged if line["event"] == "policy_updated"] == list(range(1, ITERATIONS + 1))
    assert {line["run"] for line in logged} == {run.name}
    assert (logged[0]["event"], logged[-1]["event"]) == ("trainer_started", "trainer_ended")


def test_kill_at_any_moment_loses_nothing_and_learns_nothing_twice(copy, uninterrupted) -> None:
    run, rng = copy("killed"), random.Random(7)
    kills, halves = 0, 0
    while True:
        process = start_trainer(run, "--follow")
        if kills < KILLS:
            halves += kill(process, run, rng, halfway=kills % 3 == 0)
        code = process.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills == KILLS, "the run must be long enough for all kills"
    assert halves >= 2, "some kills must strike while weights are being written"
    assert updates(run) == uninterrupted
    with closing(open_log(run / "log.sqlite")) as log:
        assert log.verify() is None
    names = {folder.name for folder in (run / "weights").iterdir()}
    assert names == {uninterrupted[0].parent, uninterrupted[-2].digest, uninterrupted[-1].digest}
    assert weights_digest(run / "weights" / uninterrupted[-1].digest) == uninterrupted[-1].digest


def kill(process: subprocess.Popen[bytes], run: Path, rng: random.Random, *, halfway: bool) -> bool:
    """Kill a trainer while it writes weights, or at a random moment up to its first update; tells if weights were half written."""
    store = run / "weights"
    unfinished = set(store.glob(".unfinished-*"))
    if halfway:
        wait_until(lambda: set(store.glob(".unfinished-*")) - unfinished, pause_s=0.0005)
    else:
        with closing(open_log(run / "log.sqlite")) as log:
            end, learned = time.monotonic() + rng.uniform(0.0, 0.7), log.head()
            wait_until(lambda: time.monotonic() > end or log.head() != learned, pause_s=0.002)
    process.kill()
    return bool(set(store.glob(".unfinished-*")) - unfinished)


def test_following_learns_each_iteration_as_it_is_finished_and_ends_with_the_run(tmp_path) -> None:
    run = play(tmp_path, iterations=0, finish=False)
    process = start_trainer(run, "--follow", "--parent", str(os.getpid()))
    with closing(open_log(run / "log.sqlite")) as log:
        example = resume(log, run)
        for iteration in (1, 2, 3):
            example.start(1).practice().finish()
            wait_until(lambda done=iteration: len(updates(run)) == done, process)
            example.load_weights(run / "weights", updates(run)[-1].digest)
        example.end()
        assert process.wait() == 0
    assert [update.iteration for update in updates(run)] == [1, 2, 3]


def resume(log: Log, run: Path) -> TinyModelRun:
    store = run / "weights"
    return TinyModelRun(log, store, next(log.read("run")).fact.policies["student"])


def test_a_second_trainer_is_refused_in_one_sentence(tmp_path) -> None:
    run = play(tmp_path, iterations=0, finish=False)
    first = start_trainer(run, "--follow")
    wait_until(lambda: (run / "trainer.lock").exists() and (run / "trainer.lock").read_text().strip() == str(first.pid))
    assert train(run) == 2
    lines = spoken((run / "screen").read_text())
    assert len(lines) == 1
    assert f"Another trainer (process {first.pid})" in lines[0]
    first.terminate()
    assert first.wait() == 143
    assert train(run) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_stop_leaves_no_traceback_and_the_rest_for_later(copy, uninterrupted, number, code) -> None:
    run = copy("stopped")
    process = start_trainer(run)
    wait_until(lambda: len(updates(run)) >= 2 or process.poll() is not None)
    process.send_signal(number)
    assert process.wait() in (code, 0)
    assert "Traceback" not in (run / "screen").read_text() + (run / "trainer.out").read_text()
    stopped = json.loads((run / "trainer.log").read_text().splitlines()[-1])
    assert stopped["event"] in ("trainer_stopped", "trainer_ended")
    assert "exception" not in stopped
    assert train(run) == 0
    assert updates(run) == uninterrupted


def test_a_trainer_whose_parent_is_another_process_ends(tmp_path) -> None:
    run = play(tmp_path, iterations=0, finish=False)
    assert train(run, "--follow", "--parent", str(os.getppid())) == 0


def test_libraries_are_quiet(straight) -> None:
    first, *lines = spoken((straight / "screen").read_text())
    assert first == step_header()
    assert all(line.startswith("warning: ") or line.split()[0].isdigit() for line in lines)


def test_damaged_weights_are_one_sentence(copy) -> None:
    run = copy("damaged")
    (run / "weights" / first_weights(run) / "config.json").write_text("{}")
    assert train(run) == 1
    [line] = spoken((run / "screen").read_text())
    assert line.startswith("error: ")
    assert "restore it" in line
    stopped = json.loads((run / "trainer.log").read_text().splitlines()[-1])
    assert (stopped["event"], stopped["error"]) == ("trainer_stopped", "TrainerError")
    assert f"error: {stopped['message']}" == line


def spoken(text: str) -> list[str]:
    """Lines without those that tell every ten seconds, on a busy machine, how far the trainer is."""
    return [line for line in text.splitlines() if not re.search(r", for \d+:\d\d|, \d+:\d\d left", line)]


def first_weights(run: Path) -> str:
    with closing(open_log(run / "log.sqlite")) as log:
        return str(next(log.read("run")).fact.policies["student"])


def test_a_run_that_has_not_started_is_named(tmp_path) -> None:
    open_log(tmp_path / "log.sqlite", create=True).close()
    assert train(tmp_path) == 2
    assert "has not started" in (tmp_path / "screen").read_text()


def test_help_is_instant_and_needs_no_torch() -> None:
    code = "import sys, time; from trainer.run import app; print('torch' in sys.modules, 'trl' in sys.modules, time.process_time())"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    torch, trl, seconds = shown.stdout.split()
    assert (torch, trl) == ("False", "False")
    # Of the processor, whatever else the machine does.
    assert float(seconds) < 5
