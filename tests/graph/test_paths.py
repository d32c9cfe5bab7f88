"""A run that was started with relative paths goes on from any folder, and on another machine from a folder that has the files."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from graph.settings.configure import configure
from graph.setup.folder import create_run, reopen_run
from graph.setup.run_inputs import read_inputs
from roles.pocket import WEIGHTS
from roles.prompt_set import SHIPPED_PROMPTS


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """The folder of a run that was started in `start`, with every file in it named relatively."""
    start = tmp_path / "start"
    (start / "sets").mkdir(parents=True)
    question = {"private": [{"input": "1", "output": "1"}], "program": "def f(x):\n    return x"}
    for name in ("goals", "practice", "test"):
        (start / "sets" / f"{name}.jsonl").write_text(json.dumps({**question, "statement": name}) + "\n")
    shutil.copytree(WEIGHTS, start / "weights")
    shutil.copytree(SHIPPED_PROMPTS / "pocket", start / "own")
    monkeypatch.chdir(start)
    shutil.copy("sets/test.jsonl", "sets/documents.jsonl")
    settings = ["goalposts=sets/goals.jsonl", "practice=sets/practice.jsonl", "test=jsonl:sets/test.jsonl", "prompts=own"]
    config = configure(
        None, [*settings[:2], "test=sets/test.jsonl", settings[3], "model=weights", "documents.source=sets/documents.jsonl"]
    )
    create_run(Path("runs/x"), config, read_inputs(config)).close()
    return start / "runs" / "x"


def test_it_goes_on_from_any_folder(begun, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    log, config, inputs = reopen_run(begun)
    with closing(log):
        assert [inputs.goalposts.questions[0].statement, inputs.practice[0].statement, inputs.test[0].statement] == [
            "goals",
            "practice",
            "test",
        ]
        assert Path(config.prompts).is_absolute()
        assert Path(config.documents.source).is_absolute()
        recorded = next(log.read("run")).fact.config
    assert (recorded["goalposts"], recorded["prompts"], recorded["model"]) == ("sets/goals.jsonl", "own", "weights")


def test_on_another_machine_it_goes_on_where_the_files_are(begun, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    os.rename(begun.parents[1], elsewhere)
    monkeypatch.chdir("/")
    with pytest.raises(BadInput, match=r"goals\.jsonl"):
        reopen_run(elsewhere / "runs" / "x")
    monkeypatch.chdir(elsewhere)
    reopen_run(Path("runs/x"))[0].close()


def test_names_of_what_ships_mean_that_even_beside_files_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pocket", "none", "ngrams"):
        (tmp_path / name).mkdir()
    config = configure(None, [])
    create_run(tmp_path / "x", config, read_inputs(config)).close()
    log, again, _ = reopen_run(tmp_path / "x")
    log.close()
    assert again == config
