"""How many threads a run computes in: by its settings, its model and the machine."""

import json
import os
import struct
from pathlib import Path

import pytest

from graph.settings.config import Config
from graph.settings.configure import configure
from graph.settings.threads import SINGLE_THREAD_WEIGHTS, default_threads, threads_of, weight_count
from graph.setup.provenance import versions
from roles.pocket import WEIGHTS


def of_size(folder: Path, weights: int) -> Path:
    """A folder with so many weights; the file is a hole behind its header."""
    folder.mkdir()
    tensor = {"dtype": "BF16", "shape": [weights // 1000, 1000], "data_offsets": [0, weights // 1000 * 2000]}
    header = json.dumps({"a": tensor}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + weights // 1000 * 2000)
    return folder


@pytest.fixture
def cores(monkeypatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return 8


@pytest.fixture
def large(tmp_path) -> Path:
    return of_size(tmp_path / "large", 2 * int(SINGLE_THREAD_WEIGHTS))


def test_a_small_model_computes_in_one_thread_so_that_its_bits_are_the_same_everywhere(cores, tmp_path) -> None:
    assert weight_count(WEIGHTS) < SINGLE_THREAD_WEIGHTS
    for folder in (WEIGHTS, of_size(tmp_path / "tiny", int(SINGLE_THREAD_WEIGHTS) - 1000), tmp_path / "nothing"):
        assert threads_of(Config(), folder) == default_threads(folder) == 1
    assert "threads" not in versions(Config(), WEIGHTS)


def test_an_adapter_counts_with_its_base(large) -> None:
    adapter = of_size(large.parent / "adapter", 1000)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": large.name}))
    assert weight_count(adapter) == weight_count(large) + 1000


@pytest.mark.parametrize(
    ("settings", "processes", "expected"),
    [
        ([], 1, 8), (["learn.staleness=1"], 1, 4), ([], 2, 4), (["learn.staleness=2"], 3, 1),
        ([], 16, 1), (["threads=3"], 1, 3), (["threads=3", "learn.staleness=1"], 2, 3),
    ],
)  # fmt: skip
def test_a_large_model_computes_in_the_cores_that_are_there(cores, large, settings, processes, expected) -> None:
    config = configure(None, settings)
    assert threads_of(config, large, processes=processes) == expected
    if processes == 1:
        assert versions(config, large)["threads"] == str(expected)
