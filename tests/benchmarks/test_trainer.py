"""The benchmark of the trainer compares equal updates, and writes its section of the document."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from benchmarks import update_contenders
from benchmarks.trainer import _agreed, main
from benchmarks.update_cases import CASES, LengthCase, Setting, recorded_schedule, step_batch_of
from events.facts.errors import BadInput, TrainerError
from tests.support.forked_commands import ForkingPopen
from trainer.data.micro_batches import micro_batches_of


def test_completions_are_as_long_as_the_case_says() -> None:
    batch = step_batch_of(recorded_schedule(LengthCase("short", (3, 5), 4, 0.5, 6), Setting(groups=3)))
    assert batch.completions == 24
    assert {len(rollout.prompt_ids) for rollout in batch.rollouts} <= {3, 4, 5}
    assert max(len(rollout.ids) for rollout in batch.rollouts) == 6
    assert sum(batch.tokens for batch in micro_batches_of(batch.rollouts, 512)) == batch.tokens


def test_everybody_makes_the_same_update(tmp_path: Path) -> None:
    setting = Setting(groups=2)
    schedule = recorded_schedule(CASES["spread"], setting)
    norms = {name: [kind(setting, schedule, tmp_path).update().norm] for name, kind in update_contenders.CONTENDERS.items()}
    assert set(update_contenders.CONTENDERS.values()) == set(get_args(update_contenders.Contender))
    assert 0 < _agreed(norms, setting) < 1e-4 or len({norm for (norm,) in norms.values()}) == 1


def test_another_update_stops_the_benchmark() -> None:
    with pytest.raises(TrainerError, match="not the same updates"):
        _agreed({"ours": [1.0, 1.0], "bare": [1.0, 1.01]}, Setting())


@pytest.mark.endurance
def test_the_benchmark_writes_its_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "benchmarks.md"
    monkeypatch.setattr(subprocess, "Popen", ForkingPopen)
    main(rounds=1, groups=1, shape="pocket", device="cpu", peak=1.0, document=document)
    written = document.read_text()
    assert len(re.findall(r"\| \*\*\d+\.\d\d \(", written)) == len(capsys.readouterr().out.splitlines()) == 4
    assert written.count("MiB") == 6
    assert written.count("MFU") == 2
    assert str(tmp_path) not in written


def test_a_device_that_is_not_found_is_said() -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="no CUDA device"):
            recorded_schedule(CASES["equal"], Setting(device="cuda"))
