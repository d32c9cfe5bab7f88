"""The ready files are settings of this version, true to the paper where it speaks, and their estimates are the arithmetic's."""

from __future__ import annotations

import re
import tomllib

import pytest

from graph.estimate.memory import GPUS
from graph.estimate.model_dims import dims_of
from graph.estimate.plan import intended_gpu, with_estimates
from graph.estimate.plan import plan as planned
from graph.estimate.settings_warnings import warnings
from graph.estimate.token_estimate import count_evaluations
from graph.settings.config import Config
from graph.settings.configure import all_settings, configure, with_overrides
from roles.prompt_set import SHIPPED_PROMPTS
from roles.questions.named_sets import parse_spec
from roles.questions.pocket_folders import POCKET_FOLDERS
from tests.support.paths import ROOT

FOLDER = ROOT / "configs"
FILES = sorted(FOLDER.glob("*.toml"))


def test_all_ready_files_are_there():
    assert [file.stem for file in FILES] == [
        "paper-7b-4xh100",
        "pocket",
        "qwen-0.5b-cpu",
        "qwen-0.5b-lora-24gb",
        "qwen-1.5b-1gpu",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_ready_file_runs_on_what_it_is_meant_for(file):
    config = configure(file, [])
    lines = planned(config, intended_gpu(file.read_text()))
    assert any(re.match("memory .* fits$", line) for line in lines), lines
    # The one about CPUs depends on the machine that is asked.
    assert not [line for line in lines if line.startswith("warning") and "tied" not in line]
    assert (SHIPPED_PROMPTS / config.prompts).is_dir()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_estimates_in_a_ready_file_are_the_arithmetics(file):
    assert with_estimates(file) == file.read_text(), "run `make drawn`"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_question_sets_of_a_ready_file_have_a_name(file):
    config = configure(file, [])
    for spec, split in ((config.goalposts, "goalposts"), (config.practice, "train"), (config.test, "test")):
        assert spec in POCKET_FOLDERS or parse_spec(spec, split)


def test_the_pocket_file_is_the_default_run_written_out():
    file = FOLDER / "pocket.toml"
    assert configure(file, []) == Config()
    written = tomllib.loads(file.read_text())
    for key, default, _ in all_settings():
        value = written
        for part in key.split("."):
            value = value.get(part, {})
        assert value != {} or default is None, f"{key} is missing: write it into {file.name}"


def test_the_papers_file_has_the_papers_numbers():
    config = configure(FOLDER / "paper-7b-4xh100.toml", [])
    assert config.model == "Qwen/Qwen2.5-Coder-7B"
    assert (config.play.attempts, config.play.pairs, config.play.public_pairs) == (10, 5, 2)
    assert (config.play.episodes, config.play.practice_attempts, config.play.iterations) == (64, 8, 50)
    assert (config.learn.learning_rate, config.verify.similarity) == (1e-6, 0.95)
    assert config.play.student.temperature == config.play.teacher.temperature == 1
    assert (config.evaluate.sampling.temperature, config.evaluate.attempts, count_evaluations(config)) == (0.6, 100, 26)
    played = config.algorithm()
    assert [played.band("easy", n, 10) == "in_band" for n in range(11)] == [3 <= n <= 7 for n in range(11)]
    assert [played.band("hard", n, 10) == "in_band" for n in range(11)] == [1 <= n <= 5 for n in range(11)]
    # Absolute Zero's, on which it builds.
    assert (config.max_prompt_tokens, config.play.student.max_tokens) == (6144, 8096)
    assert (config.learn.clip, config.learn.entropy, config.learn.kl) == (0.2, 0.001, 0)


@pytest.mark.parametrize(
    ("file", "overrides", "word"),
    [
        ("paper-7b-4xh100", ["serve.sleep=false"], "memory does not fit"),
        ("paper-7b-4xh100", ["play.student.max_tokens=30000"], "context of 32768"),
        ("paper-7b-4xh100", ["learn.staleness=1"], "learn.staleness=1"),
        ("paper-7b-4xh100", ["learn.drift=0.02"], "learn.drift=0.02"),
        ("paper-7b-4xh100", ["learn.optimizer=adamw_8bit"], "cannot be sharded"),
        ("paper-7b-4xh100", ["learn.learning_rate=3e-4"], "learn.learning_rate=0.0003"),
        ("paper-7b-4xh100", ["learn.keep_best=best"], "'best'"),
        ("paper-7b-4xh100", ["prompts=pocket"], "prompts=pocket"),
        ("qwen-0.5b-lora-24gb", ["learn.lora.modules=['c_attn']"], "'c_attn'"),
    ],
)
def test_what_would_fail_later_is_said_before(file, overrides, word):
    config = configure(FOLDER / f"{file}.toml", [])
    gpu = intended_gpu((FOLDER / f"{file}.toml").read_text())

    def said(config: Config) -> list[str]:
        return [line for line in planned(config, gpu) if line.startswith("warning: ") and word in line]

    assert not said(config)
    assert len(said(with_overrides(config, overrides))) == 1


def test_settings_that_only_look_alike_are_not_warned_of():
    config = configure(FOLDER / "paper-7b-4xh100.toml", [])
    assert not list(warnings(with_overrides(config, ["learn.precision=float32"]), None))
    assert intended_gpu("seed = 1\n") is None
    assert set(map(intended_gpu, (file.read_text() for file in FILES))) <= set(GPUS)
    assert dims_of(config.model).context == 32_768
