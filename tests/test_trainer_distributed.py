"""Two processes make the update that one makes, and only the leading one writes."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from events.errors import BadInput
from events.stores import open_log
from events.types import PolicyUpdated
from tests.test_trainer_run import ENVIRONMENT, ROOT, updates
from tests.tiny import TinyScene, tiny_weights
from trainer.distributed import ALONE, World

ITERATIONS = 2
TOLERANCE = 1e-3
"""Of the distance that weights move: additions in another order differ in the last bits, and Adam's first steps, which divide by
the gradient's size, make more of that where it is near 0."""
PATIENCE_S = 300


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("played")
    (run / "weights").mkdir()
    with closing(open_log(run / "log.sqlite", create=True)) as log:
        told = TinyScene(log, run / "weights", tiny_weights(run / "weights")).run().goalpost(2)
        for _ in range(ITERATIONS):
            told.start(3).episode(lemma=3).episode(lift=None).practice().finish()
        told.end()
    return run


def weights(run: Path, digest: str) -> dict[str, np.ndarray]:
    return load_file(run / "weights" / digest / "model.safetensors")


def trained(played: Path, run: Path, *launcher: str) -> list[PolicyUpdated]:
    shutil.copytree(played, run)
    command = [*(launcher or (sys.executable,)), "-m", "trainer.run", str(run), "--follow"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert f'"processes": {2 if launcher else 1}' in (run / "trainer.log").read_text()
    return updates(run)


@pytest.mark.slow
def test_two_processes_make_the_update_of_one(played: Path, tmp_path: Path) -> None:
    one = trained(played, tmp_path / "one")
    config = ROOT / "docs" / "accelerate" / "ddp.yaml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = ["--num_processes", "2", "--main_process_port", str(free.getsockname()[1])]
    accelerate = Path(sys.executable).with_name("accelerate")
    two = trained(played, tmp_path / "two", str(accelerate), "launch", "--config_file", str(config), *where)
    assert [(fact.samples, fact.step) for fact in one] == [(fact.samples, fact.step) for fact in two]
    assert len(one) == ITERATIONS
    for alone, together in zip(one, two, strict=True):
        for mine, theirs in zip(alone.steps, together.steps, strict=True):
            assert mine.model_dump(exclude={"metrics"}) == theirs.model_dump(exclude={"metrics"})
            assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-3, abs=1e-4)
    start, end, other = (
        weights(run, digest)
        for run, digest in (
            (tmp_path / "one", one[0].parent),
            (tmp_path / "one", one[-1].digest),
            (tmp_path / "two", two[-1].digest),
        )
    )
    moved = max(float(np.abs(end[name] - start[name]).max()) for name in start)
    apart = max(float(np.abs(end[name] - other[name]).max()) for name in start)
    assert apart < TOLERANCE * moved, (apart, moved)


def test_completions_are_shared_out_once() -> None:
    for size in (1, 2, 3, 7):
        shares = [World(rank, size).share(range(5)) for rank in range(size)]
        assert sorted(item for share in shares for item in share) == list(range(5))


def test_alone_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert World.join() == ALONE
    assert ALONE.told("word") == "word"
    assert ALONE.sums({"a": 0.1}) == ALONE.largest({"a": 0.1}) == {"a": 0.1}


@pytest.mark.parametrize("what", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_are_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, what, "true")
    with pytest.raises(BadInput, match="shard"):
        World.join()
