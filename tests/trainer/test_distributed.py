"""Two processes make the update that one makes, with whole weights or weights in parts, and only the leading one writes."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from events.facts.errors import BadInput
from events.facts.weights import OPTIMIZER_FILE
from events.stores import open_log
from tests.support.forked_commands import ForkingPopen
from tests.support.tiny_model import TinyModelRun, load_model, tiny_weights
from tests.trainer.test_run import ROOT, start_trainer, updates
from trainer.parallel.distributed import SINGLE_PROCESS, World
from trainer.parallel.fsdp import sharding_stage

TOLERANCE = 1e-3
"""Of the distance that weights move: additions in another order differ in the last bits, and Adam's first steps, which divide by
the gradient's size, make more of that where it is near 0."""
PATIENCE_S = 300


STAGES: dict[str, dict[str, str]] = {
    "ddp": {},
    "zero2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"},
    "zero3": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"},
}
"""What `accelerate launch` tells of each configuration."""


def play(run: Path, *, iterations: int = 2, tied: bool = False, **learn: object) -> Path:
    (run / "weights").mkdir(parents=True)
    with closing(open_log(run / "log.sqlite", create=True)) as log:
        example = TinyModelRun(log, run / "weights", tiny_weights(run / "weights", tied=tied))
        example.run(learn={"batch_tokens": 512, **learn}).goalpost(2)
        for _ in range(iterations):
            # An odd number of completions that makes two passes in one process and one in the other.
            example.start(3).episode(lemma=3).episode(lift=None).practice(passing=60, attempts=127).finish()
        example.end()
    return run


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launch(config: str, *command: str) -> str:
    """What two processes print that accelerate launches."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
    launcher += ["--main_process_port", port(), "--config_file", str(ROOT / "docs" / "accelerate" / f"{config}.yaml")]
    process = ForkingPopen([*launcher, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def train(run: Path, config: str | None = None, *options: str) -> None:
    """One process, or two by the variables that a launcher sets."""
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), **STAGES[config]} if config else {}
    ranks = [{**where, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)] if config else [{}]
    trainers = [start_trainer(run, *options, **environment) for environment in ranks]
    assert [trainer.wait() for trainer in trainers] == [0 for _ in ranks], (run / "trainer.log").read_text()


def tensors(run: Path, digest: str, what: str = "*model.safetensors") -> dict[str, np.ndarray]:
    return load_file(next((run / "weights" / digest).glob(what)))


def probes(run: Path) -> list[tuple[float, ...]]:
    with closing(open_log(run / "log.sqlite")) as log:
        return [event.fact.logprobs for event in log.read("policy/shared", kinds=("policy_probed",))]


def assert_same(run: Path, other: Path) -> None:
    """The same steps to weights as near as additions in another order are, and the same files of them."""
    one, two = updates(run), updates(other)
    assert len(one) > 1
    assert [(fact.samples, fact.step) for fact in one] == [(fact.samples, fact.step) for fact in two]
    for single_process_run, together in zip(one, two, strict=True):
        for mine, theirs in zip(single_process_run.steps, together.steps, strict=True):
            assert mine.model_dump(exclude={"metrics"}) == theirs.model_dump(exclude={"metrics"})
            assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-3, abs=1e-4)
    # Every update but the first goes from weights and moments that another one left.
    start, end, sharded = tensors(run, one[0].digest), tensors(run, one[-1].digest), tensors(other, two[-1].digest)
    assert {name: value.shape for name, value in end.items()} == {name: value.shape for name, value in sharded.items()}
    moved = max(float(np.abs(end[name] - start[name]).max()) for name in end)
    apart = max(float(np.abs(end[name] - sharded[name]).max()) for name in end)
    assert apart < TOLERANCE * moved, (apart, moved)
    for mine, yours in zip(probes(run), probes(other), strict=True):
        assert mine == pytest.approx(yours, abs=1e-3)
    moments, theirs = tensors(run, one[-1].digest, OPTIMIZER_FILE), tensors(other, two[-1].digest, OPTIMIZER_FILE)
    assert {name: value.shape for name, value in moments.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.fixture(scope="module")
def played_run(tmp_path_factory) -> Path:
    return play(tmp_path_factory.mktemp("played") / "run", iterations=5)


@pytest.fixture(scope="module")
def single_process_run(played_run: Path, tmp_path_factory) -> Path:
    run = shutil.copytree(played_run, tmp_path_factory.mktemp("alone") / "run")
    train(run)
    return run


@pytest.mark.slow
def test_processes_that_accelerate_launches_and_changing_ones_make_the_updates_of_one(
    played_run: Path, single_process_run: Path, tmp_path: Path
) -> None:
    """Whole weights in two processes, parts and smaller parts of them, one process, and two that accelerate launches and follow."""
    run = shutil.copytree(played_run, tmp_path / "run")
    until = [str(update.until) for update in updates(single_process_run)]
    train(run, "ddp", "--until", until[0])
    train(run, "zero2", "--until", until[1])
    assert len(updates(run)) == 2
    train(run, "zero3", "--until", until[2])
    train(run, None, "--until", until[3])
    assert len(updates(run)) == 4
    launch("zero3", "-m", "trainer.run", str(run), "--follow")
    started = [json.loads(line) for line in (run / "trainer.log").read_text().splitlines() if "trainer_started" in line]
    assert [(line["processes"], line["stage"]) for line in started] == [(2, 0), (2, 2), (2, 3), (1, 0), (2, 3)]
    assert_same(single_process_run, run)


@pytest.mark.slow
@pytest.mark.endurance
def test_accelerate_sets_the_variables_of_whole_weights() -> None:
    """A run that starts with them is in the test above."""
    variables = launch("ddp", "--no_python", "env").splitlines()
    assert {"WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", "RANK=0", "RANK=1", "LOCAL_RANK=0", "LOCAL_RANK=1"} <= set(variables)
    assert not [line for line in variables if "FSDP" in line or "DEEPSPEED" in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    "learn",
    [{"lora": {"rank": 4, "alpha": 8}}, {"tied": True, "gradient_checkpointing": True, "kl": 0.1}],
    ids=["lora", "tied"],
)
def test_adapters_references_tied_and_recomputed_layers_are_sharded_too(learn, tmp_path: Path) -> None:
    one = play(tmp_path / "one", **learn)
    two = shutil.copytree(one, tmp_path / "two")
    train(one)
    train(two, "zero3")
    assert_same(one, two)


def test_a_process_holds_its_part_of_every_tensor(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.tensor import DTensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    model = load_model.__wrapped__(tmp_path / tiny_weights(tmp_path))
    distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        World(1, 2, 3).shard(model)
        for value in model.parameters():
            assert isinstance(value, DTensor)
            assert value.to_local().numel() * 2 == value.numel()
    finally:
        distributed.destroy_process_group()


def test_completions_are_shared_out_once() -> None:
    for size in (1, 2, 3, 7):
        shares = [World(rank, size).share(range(5)) for rank in range(size)]
        assert sorted(index for share in shares for index in share) == list(range(5))


def test_alone_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert World.join() == SINGLE_PROCESS
    assert SINGLE_PROCESS.broadcast("word") == "word"
    assert SINGLE_PROCESS.reduce({"a": 0.1}, "SUM") == SINGLE_PROCESS.reduce({"a": 0.1}, "MAX") == {"a": 0.1}


@pytest.mark.parametrize("config", ["zero2", "zero3"])
def test_stages_are_those_of_zero(config: str) -> None:
    assert sharding_stage({}) == 0
    assert sharding_stage(STAGES[config]) == int(config[-1])


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({**STAGES["zero3"], "FSDP_VERSION": "1"}, "version 1"),
        ({**STAGES["zero3"], "FSDP_OFFLOAD_PARAMS": "true"}, "offloading"),
    ],
)
def test_what_does_not_fit_is_refused(environment: dict[str, str], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        sharding_stage(environment)
