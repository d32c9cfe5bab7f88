"""A model by name is what the hub's cache holds, and goes into a run without a second copy of its bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.facts.weights import weights_digest
from graph.settings.model_location import copy_weights, local_model_folder, model_folder
from roles.pocket import WEIGHTS
from tests.support.paths import ROOT

COMMIT = "a" * 40


def cached(cache: Path, *, without: str = "") -> Path:
    """A model in the layout of the hub's cache: a snapshot of links to blobs."""
    repository = cache / "models--someone--small"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for file in WEIGHTS.iterdir():
        if file.name != without:
            shutil.copy(file, repository / "blobs" / file.name)
            (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    return snapshot


def resolved(cache: Path, *specs: str) -> list[str]:
    """What a process without network finds for each, or is told."""
    code = (
        "import sys; from graph.settings.model_location import model_folder; from events.facts.errors import BadInput\n"
        "for spec in sys.argv[1:]:\n"
        " try: print(model_folder(spec))\n"
        " except BadInput as error: print('said:', error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    command = [sys.executable, "-c", code, *specs]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == len(specs)
    return shown


def test_a_name_of_the_hub_is_found_in_the_cache_without_network_or_one_sentence_names_the_cure(tmp_path):
    snapshot = cached(tmp_path)
    whole, named, *sentences = resolved(
        tmp_path, "someone/small", f"someone/small@{COMMIT}", "someone/absent", "someone/small@v2"
    )
    assert Path(whole) == Path(named) == snapshot
    for name, sentence in zip(("someone/absent", "someone/small"), sentences, strict=True):
        assert sentence.startswith("said: ")
        assert f"hf download {name}" in sentence


@pytest.mark.parametrize("without", ["config.json", "tokenizer.json"])
def test_a_model_that_is_not_whole_is_named(tmp_path, without):
    cached(tmp_path, without=without)
    (sentence,) = resolved(tmp_path, "someone/small")
    assert sentence.startswith("said: ")
    assert without in sentence or "hf download" in sentence


def test_a_folder_goes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(WEIGHTS, tmp_path / "someone" / "small")
    assert model_folder("someone/small") == local_model_folder("someone/small") == Path("someone/small")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        model_folder(str(tmp_path / "model"))


def test_the_cache_is_linked_into_a_run_and_a_folder_of_ones_own_is_copied(tmp_path):
    snapshot = cached(tmp_path / "cache")
    copy_weights(snapshot, tmp_path / "linked")
    copy_weights(WEIGHTS, tmp_path / "copied")
    assert weights_digest(tmp_path / "linked") == weights_digest(tmp_path / "copied") == weights_digest(WEIGHTS)
    name = "model.safetensors"
    assert not (tmp_path / "linked" / name).is_symlink()
    assert (tmp_path / "linked" / name).samefile(snapshot / name)
    assert not (tmp_path / "copied" / name).samefile(WEIGHTS / name)
    shutil.rmtree(tmp_path / "linked")
    assert weights_digest(snapshot) == weights_digest(WEIGHTS)


@pytest.mark.parametrize(
    "spec", ["../no-model", "./no-model", "no-model/..", ".hidden/x", "a--b/c", "a..b/c", "a/b-", f"a/{'b' * 95}"]
)
def test_what_is_no_name_of_the_hub_is_a_folder_that_is_not_found(spec) -> None:
    for find in (model_folder, local_model_folder):
        with pytest.raises(BadInput, match="There is no model in"):
            find(spec)
