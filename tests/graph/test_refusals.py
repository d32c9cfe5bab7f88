"""Settings that cannot work are refused in a sentence before there is a run."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from graph.settings import refusals
from graph.settings.config import Config
from graph.settings.configure import configure
from graph.settings.refusals import max_context, refuse_unworkable
from roles.pocket import WEIGHTS
from roles.prompt_set import SHIPPED_PROMPTS
from tests.graph.test_run import graph_run, one_sentence
from tests.support.tiny_model import VOCABULARY, tiny_gpt2, tiny_weights

__all__ = ["graph_run"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    store = tmp_path_factory.mktemp("weights")
    shutil.copytree(SHIPPED_PROMPTS / "base", store / "bare")
    (store / "bare" / "certainty.md").unlink()
    mute = changed(WEIGHTS, store / "mute", "tokenizer.json", model={"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"})
    shipped = {"pocket": WEIGHTS, "mute": mute, "bare": store / "bare"}
    return {"qwen3": store / tiny_weights(store), "gpt2": store / tiny_gpt2(store), **shipped}


def changed(folder: Path, to: Path, file: str = "config.json", **change) -> Path:
    """The model with other words in a file; None takes one out."""
    shutil.copytree(folder, to)
    settings = json.loads((to / file).read_text()) | change
    (to / file).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return to


def lora(*names: str) -> list[str]:
    return ["learn.lora.rank=2", f"learn.lora.modules={list(names)}"]


VOTED = ["recipe=sqlm", "prompts=pocket"]
TRIED = ["recipe=soar", "prompts=pocket"]
DOCUMENTS = ["recipe=darc", "prompts=pocket3"]
WRONG = [
    ("qwen3", lora("lm_head"), "'lm_head', the model's output head; name some of down_proj, gate_proj"),
    ("qwen3", lora("q_proj", "embed_tokens"), "'embed_tokens', which is no linear layer but of class Embedding"),
    ("qwen3", lora("nowhere"), "'nowhere', which the model does not have"),
    ("qwen3", lora("proj"), "'proj', which the model does not have"),
    ("qwen3", lora(""), "'', which the model does not have"),
    ("qwen3", lora("self_attn"), "'self_attn', which is no linear layer but of class Qwen3Attention"),
    ("qwen3", lora("norm"), "'norm', which is no linear layer but of class Qwen3RMSNorm"),
    ("gpt2", lora("wte"), "'wte', which is no linear layer but of class Embedding"),
    ("gpt2", lora("q_proj"), "name some of c_attn, c_fc, c_proj"),
    ("gpt2", lora("lm_head"), "the model's output head"),
    ("qwen3", ["max_prompt_tokens=289", "play.teacher.max_tokens=224"], "exceed the model's context of 512 tokens"),
    ("qwen3", ["evaluate.sampling.max_tokens=300"], r"max_tokens \(300\) exceed the model's context"),
    ("gpt2", ["max_prompt_tokens=500"], "exceed the model's context of 512 tokens"),
    ("pocket", ["max_prompt_tokens=500"], "exceed the model's context of 512 tokens"),
    ("qwen3", ["prompts=instruct"], "no chat template"),
    ("qwen3", ["learn.keep_best=best"], "names no question set that is evaluated"),
    ("pocket", [*VOTED, "play.public_pairs=2"], "public_pairs=2 would show the student the labels that recipe sqlm finds"),
    ("pocket", [*VOTED, 'play.tasks=["induction", "deduction"]'], "has tasks whose answers recipe sqlm cannot label"),
    (
        "pocket",
        [*VOTED, "play.attempts=2"],
        "attempts=2 answers hardly have a majority, which recipe sqlm needs; ask for 3",
    ),
    ("pocket", [*VOTED, "recipe=sqlm_truth", "goalposts=x.jsonl"], "recipe sqlm_truth needs a world that knows the truth"),
    ("pocket", ["goalposts=none"], "goalposts=none gives recipe gasp_real no goalposts, which it plays towards"),
    ("pocket", ["recipe=hard_only", "goalposts=none"], "goalposts=none gives recipe hard_only no goalposts"),
    ("pocket", [*VOTED, "goalposts=none", "learn.keep_best=goalposts"], "names no question set that is evaluated"),
    ("pocket", [*VOTED, "play.topics=[]"], "topics is empty, and recipe sqlm writes about topics"),
    ("pocket", [*TRIED, "policies=shared"], "policies=shared would try the teacher's weights with the student's; recipe soar"),
    ("pocket", [*TRIED, "learn.staleness=1"], "staleness=1 plays ahead of the trials that recipe soar waits for"),
    ("pocket", [*TRIED, "learn.epochs=2"], "epochs=2 would multiply the steps of a trial"),
    ("pocket", [*TRIED, "play.shares=2"], "shares=2 divides an iteration, and recipe soar tries it as a whole"),
    ("pocket", [*TRIED, "trials.sets=65"], "episodes=64 episodes cannot be divided into trials.sets=65 sets"),
    ("pocket", [*TRIED, "trials.students=5"], "attempts=8 attempts leave fewer than two for each of trials.students=5"),
    ("pocket", [*DOCUMENTS, "play.public_pairs=2"], "public_pairs=2 would show the student the labels that recipe darc finds"),
    ("pocket", [*DOCUMENTS, 'play.tasks=["deduction"]'], "has tasks whose answers recipe darc cannot label"),
    ("pocket", [*DOCUMENTS, "documents.attempts=2"], r"^documents\.attempts=2 answers hardly have a majority"),
    ("pocket", [*DOCUMENTS, "policies=shared"], "would teach the student what recipe darc teaches its teacher alone"),
    ("pocket", [*DOCUMENTS, "documents.source=none"], "names no documents, which recipe darc writes about"),
    ("pocket", [*DOCUMENTS, "play.practice=0"], "plays no question of the pool that recipe darc makes"),
    ("pocket", [*DOCUMENTS, "prompts=pocket2"], r"'pocket2' has no document\.md, which recipe darc asks with"),
    ("pocket", [*DOCUMENTS, "play.iterations=21"], "iterations=21 ends before the last stage of recipe darc"),
    ("pocket", ["recipe=sft_vanilla"], "'base' has thoughts before an answer and .*</answer>' behind it"),
    ("pocket", ["recipe=r_tuning_r", "prompts=completion"], "gives the beginning of every answer, so that recipe r_tuning_r"),
    (
        "pocket",
        ["recipe=r_tuning", "prompts=pocket", "play.iterations=1"],
        "iterations=1 ends before the last stage of recipe r_tuning",
    ),
    ("pocket", ["evaluate.certainty=true", "prompts={bare}"], "has no certainty.md"),
    ("mute", ["evaluate.certainty=true"], "has the same tokens for ' I am sure.' and ' I am unsure.'"),
    (
        "pocket",
        ["recipe=r_tuning", "prompts=pocket", "play.student.max_tokens=200"],
        "exceed the model's context of 512 tokens",
    ),
    ("qwen3", ["learn.optimizer=adamw_8bit", "learn.processes=2", "learn.shard=zero2"], "cannot be sharded"),
]


@pytest.mark.parametrize(("model", "settings", "words"), WRONG)
def test_what_cannot_work_with_the_model_is_a_sentence(made, model, settings, words) -> None:
    config = configure(
        None, ["prompts=base", "learn.processes=1", *(text.replace("{bare}", str(made["bare"])) for text in settings)]
    )
    with pytest.raises(BadInput, match=words) as refused:
        refuse_unworkable(config, made[model])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("qwen3", lora()),
        ("qwen3", lora("q_proj", "layers.1.mlp.up_proj")),
        ("gpt2", lora("c_attn", "attn.c_proj")),
        ("gpt2", [*lora(), "learn.gradient_checkpointing=true"]),
        ("qwen3", ["max_prompt_tokens=288"]),
        ("gpt2", ["max_prompt_tokens=288", "learn.keep_best=goalposts"]),
        ("pocket", ["prompts=pocket", *lora()]),
        ("pocket", [*VOTED, "goalposts=none"]),
        ("qwen3", [f"seed={2**70}", "learn.batch_tokens=512"]),
    ],
)
def test_what_works_is_let_through(made, model, settings) -> None:
    refuse_unworkable(configure(None, ["prompts=base", *settings]), made[model])


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "config.json",
            {"vocab_size": VOCABULARY - 1},
            rf"token ids up to {VOCABULARY - 1}, and its model knows {VOCABULARY - 1}",
        ),
        ("config.json", {"quantization_config": {"quant_method": "awq"}}, "are quantised"),
        ("config.json", {"max_position_embeddings": 100}, "context of 100"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(made, tmp_path, file, change, words) -> None:
    with pytest.raises(BadInput, match=words):
        refuse_unworkable(configure(None, ["prompts=base"]), changed(made["qwen3"], tmp_path / "other", file, **change))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        (
            {"max_position_embeddings": 32768, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768}},
            131072,
        ),
        (
            {"max_position_embeddings": 131072, "rope_parameters": {"factor": 8.0, "original_max_position_embeddings": 8192}},
            131072,
        ),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 2}}, 4096),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, 2048),
        ({"d_model": 8}, None),
    ],
)
def test_the_context_is_what_the_configuration_says(settings, expected) -> None:
    assert max_context(settings) == expected


def test_what_this_machine_lacks_is_refused(made, monkeypatch) -> None:
    monkeypatch.setattr(refusals, "_GPUS", ())
    for name in ("learn.devices", "serve.devices"):
        with pytest.raises(BadInput, match=f"{name}='0' names GPUs, and there is none here"):
            refuse_unworkable(configure(None, [f"{name}='0'"]), WEIGHTS)
    monkeypatch.setattr(refusals.os, "sched_getaffinity", lambda _: {0, 3})
    for many in (["learn.processes=5"], ["serve.backend=vllm", "serve.replicas=5"]):
        with pytest.raises(BadInput, match=rf"{many[-1]} is more than two for each of the cores here \(2\)"):
            refuse_unworkable(configure(None, many), WEIGHTS)
    refuse_unworkable(configure(None, ["learn.processes=4", "serve.backend=vllm", "serve.replicas=4"]), WEIGHTS)
    monkeypatch.setattr(refusals, "_GPUS", ("/",))
    with pytest.raises(BadInput, match=r"learn\.processes=3 needs as many GPUs"):
        refuse_unworkable(configure(None, ["learn.processes=3", "learn.devices='0,1'"]), WEIGHTS)
    monkeypatch.setattr(refusals, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install 'gasp\[8bit\]'"):
        refuse_unworkable(configure(None, ["learn.optimizer=adamw_8bit"]), WEIGHTS)


def test_a_run_is_refused_before_there_is_one(graph_run, tmp_path) -> None:
    wrong = ["--set", "learn.lora.rank=2", "--set", "learn.lora.modules=['lm_head']"]
    code, _, err = graph_run("--plain", *wrong)
    assert code == 2
    assert one_sentence(err)
    assert "output head" in err
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]
    # A dry run says all that it would be refused for.
    code, out, _ = graph_run("--dry-run", *wrong, "--set", "max_prompt_tokens=900")
    assert (code, out.count("# warning: ")) == (0, 2)


def test_the_defaults_are_checked_without_loading_anything_heavy() -> None:
    assert importlib.util.find_spec("torch")
    program = (
        "import sys; from graph.settings.refusals import refuse_unworkable; from graph.settings.config import Config; from roles.pocket import WEIGHTS;"
        "refuse_unworkable(Config(), WEIGHTS); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    assert Config().window <= 512
