"""The plan on paper is what its formulas say, and stands in the document."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.reports.documents import replace_generated
from graph.estimate.budget import Budget, comparison_table
from graph.estimate.memory import GPUS, Memory, gpu_of
from graph.estimate.model_dims import KNOWN_MODELS, ModelDims, dims_of, read_dims
from graph.estimate.plan import plan
from graph.estimate.token_estimate import (
    SILENT_SHARE,
    count_evaluations,
    count_iterations,
    tokens_of_evaluation,
    tokens_of_iteration,
)
from graph.settings.config import Config
from graph.settings.configure import configure, with_overrides
from roles.pocket import WEIGHTS
from tests.support.paths import ROOT
from tests.support.tiny_model import load_model, tiny_weights

PAPER = ROOT / "configs" / "paper-7b-4xh100.toml"
SMALL = ModelDims(layers=2, width=10, inner=30, key_values=5, vocabulary=100, tied=False, queries=20)


def with_settings(*overrides: str) -> Config:
    return with_overrides(Config(), overrides)


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs" / "estimates.md").read_text()
    config = configure(PAPER, [])
    drawn = "\n".join(comparison_table(config, dims_of(config.model), GPUS["H100"]))
    assert replace_generated(text, "budget", drawn) == text, "run `make drawn`"


def test_the_command_prints_it_and_needs_no_torch() -> None:
    code = (
        "import sys; from graph.estimate.budget import main; from pathlib import Path; main(Path(sys.argv[1]), [], 'H200', None)\n"
        "assert 'torch' not in sys.modules"
    )
    plain = subprocess.run(
        [sys.executable, "-c", code, str(PAPER)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    command = [sys.executable, "-m", "graph.estimate.budget", str(PAPER), "--gpu", "H200"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output == plain
    assert "| **memory of a training process** |" in output


def test_stages_are_estimated_one_by_one_and_an_iteration_is_their_mean() -> None:
    answers, texts = 400 * 10, 400
    found = tokens_of_iteration(Config(recipe="r_tuning_u"))
    assert (found.answers, found.learned, found.proposals) == (answers / 2, texts / 2, 0)
    assert found.trained_tokens == texts * (64 + 48) / 2
    longer = tokens_of_iteration(Config(recipe="r_tuning_u", play={"iterations": 4, "practice": 100}))
    assert (longer.answers, longer.learned) == (100 * 10 / 4, 100 * 3 / 4)
    line = next(line for line in plan(Config(recipe="r_tuning_u")) if line.startswith("iterations"))
    assert line.endswith(
        "2, 1 of them with 400 real questions, 10 answers each at temperature 0.7, then each with 400 texts to learn"
    )


def test_a_dry_run_names_what_an_iteration_has_and_too_few_goalposts_for_trials() -> None:
    hard = plan(configure(None, ["recipe=hard_only"]))
    assert "practice      pocket2: 100 questions" in hard
    assert "iterations    40, each with 24 real questions" in hard
    assert any("give 120 or more" in line for line in plan(configure(None, ["recipe=soar", "trials.questions=60"])))
    alone = tokens_of_evaluation(configure(None, ["recipe=sqlm", "goalposts=none"]))
    assert 2 * alone.completions == tokens_of_evaluation(configure(None, ["recipe=sqlm"])).completions


def test_what_is_written_about_documents_is_voted_on_and_the_pool_is_written_once_and_never_learned_from() -> None:
    few = {"play": {"iterations": 4, "practice": 30}, "documents": {"iterations": 2}}
    found = tokens_of_iteration(Config(recipe="darc", **few))
    written, pool, played = 24, 3 * 24, 30
    assert found.proposals == (2 * written + pool) / 4
    assert found.answers == (2 * written * (8 + 10) + played * (8 + 8)) / 4
    assert found.learned == (2 * written + played * 8 * (1 - SILENT_SHARE)) / 4
    lines = plan(Config(recipe="darc", **few))
    assert "documents     pocket: 24 questions" in lines
    assert next(line for line in lines if line.startswith("iterations")).endswith(
        "4, 2 of them with 24 episodes, then 1 of them with up to 72 episodes, whose questions are the pool,"
        " then each with 30 questions of the pool"
    )


@pytest.mark.parametrize(
    ("name", "weights"), [("0.5B", 494e6), ("1.5B", 1.544e9), ("3B", 3.086e9), ("7B", 7.616e9), ("14B", 14.77e9)]
)
def test_known_models_have_as_many_weights_as_their_cards_say(name: str, weights: float) -> None:
    assert KNOWN_MODELS[f"Qwen2.5-Coder-{name}"].weights == pytest.approx(weights, rel=1e-3)
    assert dims_of(f"nobody/Qwen2.5-Coder-{name}-Instruct@main") == KNOWN_MODELS[f"Qwen2.5-Coder-{name}"]


def test_weights_and_adapters_are_counted_as_torch_and_peft_make_them(tmp_path: Path) -> None:
    from graph.settings.config import LoraSettings
    from trainer.learn.adapter import Adapter

    folder = tmp_path / tiny_weights(tmp_path)
    model = load_model(folder)
    shape = read_dims(folder)
    norms = sum(value.numel() for name, value in model.named_parameters() if "norm" in name)
    assert shape.weights == sum(value.numel() for value in model.parameters()) - norms
    Adapter.attach(model, "shared", "0" * 64, LoraSettings(rank=4), seed=0)
    made = sum(value.numel() for name, value in model.named_parameters() if "lora_" in name)
    assert shape.adapter(4) == made
    assert shape.adapter(4, ("q_proj",)) == made * sum(shape.linear["q_proj"]) / sum(map(sum, shape.linear.values()))


@pytest.mark.parametrize(
    ("text", "word"), [("{", "config.json"), ('{"model_type": "mamba"}', "mamba"), ('{"model_type": "qwen2"}', "num_attention")]
)
def test_a_shape_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=word):
        read_dims(tmp_path)


def test_a_hand_computed_learner() -> None:
    weights = 2 * (2 * 10 * 20 + 2 * 10 * 5 + 3 * 10 * 30) + 2 * 100 * 10
    assert SMALL.weights == weights
    passes = ("learn.batch_tokens=512", "learn.precision=bfloat16", "learn.gradient_checkpointing=true")
    full = Memory(with_settings(*passes), SMALL, GPUS["H100"])
    assert (full.state, full.resident, full.copies, full.gathered) == (16 * weights, 12 * weights, 2 * weights, 0)
    layer = 512 * (2 * (2 * 10 + 20 + 2 * 5 + 3 * 30) + 160)
    assert full.activations == 4 * 512 * 10 * 2 + layer
    assert full.trainer == 18 * weights + full.activations + full.gpu.base
    assert Memory(with_settings(*passes[:2]), SMALL, GPUS["H100"]).activations == 2 * layer
    assert Memory(with_settings("learn.optimizer=adamw_8bit"), SMALL, GPUS["H100"]).state == 10 * weights
    lora = Memory(with_settings("learn.lora.rank=1", "policies=separate"), SMALL, GPUS["H100"])
    assert lora.state == 4 * weights + (2 * 12 + 4) * SMALL.adapter(1)
    adapters = Memory(with_settings(*passes[:2], "learn.lora.rank=1"), SMALL, GPUS["H100"])
    assert adapters.activations == 2 * (layer + 512 * 4 * (5 * 10 + 20 + 30))
    assert adapters.copies == 2 * (SMALL.adapter(1) + 2 * SMALL.layer)
    parts = Memory(with_settings(*passes, "learn.processes=4", "learn.shard=zero3"), SMALL, GPUS["H100"])
    assert parts.state == full.state / 4
    assert parts.gathered == 4 * (3 * SMALL.layer + 2 * SMALL.embeddings)
    pulled = Memory(with_settings("learn.kl=0.1", "policies=separate"), SMALL, GPUS["H100"])
    assert pulled.resident == 4 * 4 * weights + 2 * 8 * weights


def test_a_completion_is_never_cut_to_fit_a_pass() -> None:
    assert Memory(with_settings("play.student.max_tokens=30000"), SMALL, GPUS["H100"]).batch == 30_000 + 256


def test_a_shared_gpu_holds_server_and_learner_or_one_at_a_time() -> None:
    served = ("serve.backend=vllm", "serve.gpu_memory=0.5", "serve.dtype=bfloat16")
    both = Memory(with_settings(*served), SMALL, GPUS["H100"])
    assert both.needed("0") == 40e9 + both.trainer
    turns = Memory(with_settings(*served, "serve.sleep=true"), SMALL, GPUS["H100"])
    assert turns.needed("0") == 40e9 + turns.resident + 2e9
    apart = Memory(with_settings(*served, "learn.devices=1"), SMALL, GPUS["H100"])
    assert (apart.needed("0"), apart.needed("1")) == (40e9, apart.trainer)
    assert apart.gpus == ["0", "1"]
    assert both.cached == (40e9 - 2 * SMALL.weights - 2e9) / (2 * 2 * 2 * 5)


def test_servers_that_run_already_take_nothing_of_the_trainers_gpu() -> None:
    there = Memory(with_settings("serve.backend=vllm", "serve.urls=['http://there:8000']"), SMALL, GPUS["H100"])
    assert there.gpus == ["0", "http://there:8000"]
    assert there.needed("0") == there.trainer


def test_on_a_cpu_a_server_is_given_gibibytes_of_keys_and_values() -> None:
    served = Memory(with_settings("serve.backend=vllm", "serve.kv_cache_gib=0.5"), SMALL, GPUS["CPU"])
    assert served.cached == 2**29 / served.cache


def test_what_does_not_fit_is_said() -> None:
    config = configure(PAPER, [])
    shape = dims_of(config.model)
    assert Memory(config, shape, GPUS["H100"]).fits
    for override in (
        "serve.sleep=false",
        "serve.gpu_memory=0.9",
        "learn.shard=none",
        "serve.gpu_memory=0.2",
        "learn.gradient_checkpointing=false",
    ):
        assert not Memory(with_overrides(config, [override]), shape, GPUS["H100"]).fits, override


def test_a_hand_computed_iteration() -> None:
    settings = (
        "play.episodes=3", "play.max_attempts=4", "play.attempts=10",
        "play.solve_attempts=6", "play.practice=5", "play.practice_attempts=8",
    )  # fmt: skip
    usual, most = (tokens_of_iteration(with_settings(*settings), most=most) for most in (False, True))
    assert (usual.proposals, usual.answers) == (3 * 5, 10 * (3 + 15) + 6 * 2 / 3 * 6 + 40)
    assert usual.learned == pytest.approx(15 + (6 * (10 / 3 + 2 / 3 * 6) + 40) * (1 - SILENT_SHARE))
    assert (most.proposals, most.answers, most.learned) == (3 * 8, 10 * (3 + 24) + 6 * 6 + 40, 24 + 6 * 10 + 40)
    assert most.tokens == 24 * 224 + most.answers * 96
    assert tokens_of_iteration(with_settings(*settings, "recipe=gasp")).answers == usual.answers - 40


@pytest.mark.parametrize(("last", "every", "count"), [(40, 0, 2), (50, 2, 26), (5, 2, 4), (0, 0, 1)])
def test_evaluations_are_counted(last: int, every: int, count: int) -> None:
    config = with_settings(f"play.iterations={last}", f"evaluate.every={every}")
    assert count_evaluations(config) == count
    assert tokens_of_evaluation(config).answers == 2 * 100 * 20
    assert tokens_of_evaluation(with_overrides(config, ["test=none"])).answers == 100 * 20


def test_a_budget_of_samples_ends_the_run_and_spaces_its_evaluations() -> None:
    practice = ("recipe=rlvr", "play.iterations=40", "play.practice=10", "play.practice_attempts=8", "validation=pocket")
    config = with_settings(*practice, "play.samples=1000", "evaluate.every_samples=300")
    assert tokens_of_iteration(config).answers == 80
    assert count_iterations(config) == 13
    # At the start, after iterations 4, 8 and 12, which complete 300, 600 and 900, and at the end.
    assert count_evaluations(config) == 5
    assert tokens_of_evaluation(config).answers == 3 * 100 * 20
    assert count_iterations(with_overrides(config, ["play.samples=10000"])) == 40


def test_hand_computed_hours() -> None:
    config = with_settings("recipe=gasp", "play.iterations=10", "evaluate.every=5", "test=none")
    budget = Budget(config, SMALL, replace(GPUS["H100"], peak=1e6))
    work = tokens_of_iteration(config)
    sampling = 2 * SMALL.weights * work.tokens / 0.15e6 + work.answers / 100
    learning = 6 * SMALL.weights * work.trained_tokens / 0.4e6
    exam = 2 * SMALL.weights * 2000 * 48 / 0.15e6 + 20
    assert budget.hours() * 3600 == pytest.approx(10 * (sampling + learning + 16 * SMALL.weights / 2e9) + 3 * exam)


def test_a_gpu_that_is_not_in_the_table_is_one_sentence() -> None:
    assert gpu_of(None, read_dims(WEIGHTS)).name == "CPU"
    with pytest.raises(BadInput, match="abacus"):
        gpu_of("abacus", SMALL)
