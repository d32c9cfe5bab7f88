"""The script for a GPU: an iteration is read from the log, what could not be measured is left blank, and estimates stand beside."""

import pytest

from benchmarks.gpu import attempt, estimated, last_iteration, report
from events.facts.errors import GaspError
from events.stores.memory import MemoryLog
from graph.estimate.budget import Budget
from graph.estimate.memory import GPUS
from graph.estimate.model_dims import dims_of
from graph.settings.configure import configure
from tests.support.example_runs import START_WEIGHTS, example_run, policy_updated
from tests.support.paths import ROOT

CONFIG = ROOT / "configs" / "qwen-0.5b-lora-24gb.toml"


def test_the_last_iteration_that_was_learned_from_is_read_from_the_log() -> None:
    log = MemoryLog()
    run = example_run(log).goalpost().start().episode().finish()
    with pytest.raises(GaspError, match="finished no iteration"):
        last_iteration(log)
    end = len(list(log.read()))
    log.append(
        "policy/shared", [policy_updated(iteration=1, after=0, until=end, parent=START_WEIGHTS)], observed={"seconds": 3.0}
    )
    run.start()
    measured = last_iteration(log)
    generations = [event.fact.generation for event in log.read() if getattr(event.fact, "generation", None)]
    assert measured["iteration"] == 1
    assert measured["tokens"] == sum(generation.length for generation in generations) > 0
    assert measured["update_s"] == 3.0
    assert 0 < measured["play_s"] <= measured["whole_s"]


def test_a_part_that_fails_is_blank_beside_its_estimate() -> None:
    def fails() -> dict[str, float]:
        raise GaspError("There is no engine.")

    dims = dims_of("Qwen/Qwen2.5-Coder-0.5B-Instruct")
    estimate = estimated(Budget(configure(CONFIG, []), dims, GPUS["H200"]))
    sampling = attempt("sampling", lambda: {"tokens": 64, "tokens_per_second": 12_345.6})
    row = {"model": "m", "sampling": sampling, "update": {"mfu": 0.25}, "iteration": attempt("iteration", fails)}
    lines = report([{**row, "estimate": estimate}])
    assert lines[0] == "| figure | m, measured | m, estimated |"
    assert lines[2].startswith("| tokens a second, sampling alone | 12,346 | ")
    assert lines[4] == "| MFU of the update, % | 25 | 40 |"
    assert lines[9].startswith("| iteration, s | – | ")
    assert estimate["whole_s"] > estimate["play_s"] + estimate["update_s"] > 0
    assert row["iteration"] == {"error": "There is no engine."}
