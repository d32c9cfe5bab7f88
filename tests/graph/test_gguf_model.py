"""The setting `model` takes a GGUF file: converted once, refused early, recorded in the first event, not needed afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.facts.log import find_run_started
from events.facts.types import RunStarted
from events.facts.values import GgufFile, canonical
from events.facts.weights import weights_digest
from graph.estimate.model_dims import dims_of, read_dims
from graph.estimate.plan import plan
from graph.settings.config import Config
from graph.settings.configure import configure
from graph.settings.gguf_folder import gguf_source
from graph.settings.model_location import copy_weights, local_model_folder, model_folder
from graph.setup.folder import create_run, reopen_run
from graph.setup.named_policies import refuse_unknown_model
from graph.setup.run_inputs import read_inputs
from roles.models.gguf_tokenizer import SPLITTINGS, Splitting
from roles.pocket import WEIGHTS
from tests.graph.test_whole_recipes import play
from tests.support.processes import start_command
from tests.support.tiny_gguf import tiny_model, write_gguf

SMALL = {
    "recipe": "rlvr",
    "test": "none",
    "play": {"iterations": 1, "practice": 6, "practice_attempts": 4},
    "evaluate": {"questions": 1, "attempts": 1},
}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gasp" / "gguf"


@pytest.fixture
def file(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen2", tie_word_embeddings=True), "Q4_0")


def test_a_file_is_converted_once_and_linked_into_runs(tmp_path, cache, file, capfd) -> None:
    # Of a conversion that was killed.
    (cache / ".new-other").mkdir(parents=True)
    folder = model_folder(str(file))
    assert folder.parent == cache
    assert capfd.readouterr().err.count("dequantised to float32, once") == 1
    again = str(shutil.copy(file, tmp_path / "renamed.gguf"))
    assert model_folder(again) == folder
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert capfd.readouterr().err == ""
    copy_weights(folder, tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").samefile(folder / "model.safetensors")
    assert weights_digest(tmp_path / "run") == weights_digest(folder)
    assert not list((tmp_path / "run").glob(".*"))
    source = gguf_source(again, folder)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert source == GgufFile(name="renamed.gguf", digest=digest, types={"Q4_0": 15, "F32": 11}, converter=source.converter)
    assert source.converter.startswith("gguf ")


def test_a_conversion_that_fails_leaves_nothing(tmp_path, cache) -> None:
    broken = write_gguf(
        tmp_path / "x.gguf", tiny_model("qwen2"), tensors={"output_norm.weight": torch.full((64,), torch.nan).numpy()}
    )
    with pytest.raises(BadInput, match="no finite numbers"):
        model_folder(str(broken))
    assert not list(cache.iterdir())


def test_estimates_read_the_header_only(cache, file) -> None:
    dims = dims_of(str(file))
    lines = "\n".join(plan(configure(None, [f"model={file}", "prompts=base"])))
    assert not cache.exists()
    assert f"model         {file}, a GGUF file: dequantised to float32 when the run starts" in lines
    assert "estimates     none" not in lines
    assert local_model_folder(str(file)) is None
    folder = model_folder(str(file))
    assert dims == read_dims(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert dims.weights == sum(weights.numel() for weights in model.parameters() if weights.dim() > 1)


@pytest.mark.parametrize(
    ("settings", "metadata", "words"),
    [
        (["prompts=instruct", "max_prompt_tokens=128"], {"tokenizer.chat_template": None}, "has no chat template"),
        (["prompts=base", "max_prompt_tokens=500"], {}, "exceed the model's context of 512 tokens"),
        (["prompts=base"], {"general.architecture": "gemma3"}, "architecture 'gemma3'"),
        (["prompts=base"], {"tokenizer.ggml.tokens": None}, "has no tokenizer"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_converted(tmp_path, cache, settings, metadata, words) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen2"), metadata=metadata)
    config = configure(None, [f"model={file}", *settings])
    with pytest.raises(BadInput, match=words):
        read_inputs(config)
    assert any(words.replace("\\", "") in line for line in plan(config))
    assert not cache.exists()


@pytest.mark.parametrize(("name", "content"), [("none.gguf", None), ("text.gguf", b"hello"), ("weights.bin", b"PK\3\4")])
def test_what_is_no_gguf_file_is_a_sentence(tmp_path, monkeypatch, name, content) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    refuse_unknown_model(name)
    with pytest.raises(BadInput, match="There is no file" if content is None else "not a GGUF file"):
        model_folder(name)


def test_without_the_package_it_is_a_sentence(file, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    file = str(shutil.copy(file, file.with_name("other.gguf")))
    with pytest.raises(BadInput, match=r"pip install 'gasp\[gguf\]'"):
        model_folder(file)


def test_first_events_of_other_runs_have_the_bytes_that_they_had() -> None:
    plain = RunStarted(config={}, versions={}, commit="unknown", policies={})
    assert b"dequantised" not in canonical(plain)
    source = GgufFile(name="x.gguf", digest="0" * 64, types={"Q4_K": 2}, converter="gguf 0")
    dequantised = plain.model_copy(update={"dequantised": source})
    assert RunStarted.model_validate_json(canonical(dequantised)) == dequantised


def write_pocket(file: Path) -> Path:
    """The pocket model as GGUF."""
    tokenizer = json.loads((WEIGHTS / "tokenizer.json").read_text())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__)
    words = {
        "pre": "pocket",
        "tokens": tokens,
        "token_type": [3, 3] + [1] * (len(tokens) - 2),
        "merges": [" ".join(merge) for merge in tokenizer["merges"]],
        "bos_token_id": None,
        "eos_token_id": 0,
        "padding_token_id": 1,
    }
    metadata = {f"tokenizer.ggml.{name}": value for name, value in words.items()} | {"tokenizer.chat_template": None}
    return write_gguf(file, AutoModelForCausalLM.from_pretrained(WEIGHTS), metadata=metadata)


@pytest.mark.docker
@pytest.mark.slow
def test_a_run_plays_and_learns_from_a_file_and_does_not_need_it_again(tmp_path, cache, runner, monkeypatch) -> None:
    splitting = json.loads((WEIGHTS / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    monkeypatch.setitem(SPLITTINGS, "pocket", Splitting(splitting))
    file, run = write_pocket(tmp_path / "pocket.gguf"), tmp_path / "one"
    config = Config(model=str(file), **SMALL)
    with closing(create_run(run, config, read_inputs(config))) as log:
        asyncio.run(play(run, config, log, runner))
        first = find_run_started(log)
        (update,) = (event.fact for event in log.read(kinds=("policy_updated",)))
        served = {event.fact.policy for event in log.read(kinds=("policy_served",))}
    assert first.dequantised.name == "pocket.gguf"
    assert first.dequantised.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert update.parent == first.policies["student"] == weights_digest(model_folder(str(file)))
    assert update.digest != update.parent
    assert served == {update.parent, update.digest}

    file.unlink()
    shutil.rmtree(cache)
    log, resumed, _ = reopen_run(run)
    log.close()
    assert resumed == config
    again = tmp_path / "again"
    process = start_command("trainer.run", again, "--offline", run, "--verify", fresh=False)
    _, err = process.communicate()
    assert process.returncode == 0, err
    with closing(open_run(str(again))) as log:
        assert find_run_started(log).dequantised == first.dequantised
        assert [event.fact.digest for event in log.read(kinds=("policy_updated",))] == [update.digest]
