"""The main command's edge: every mistake is one sentence, an exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from events.cli.app import run_app
from events.facts.log import run_started
from events.facts.weights import optimizer_digest
from events.stores import open_log
from graph.run import app
from graph.settings.config import Config
from graph.settings.configure import all_settings
from graph.setup.folder import create_run
from graph.setup.run_inputs import read_inputs
from roles.pocket import WEIGHTS
from tests.support.example_runs import example_run
from tests.support.paths import ROOT
from tests.support.processes import start_command


@pytest.fixture
def graph_run(monkeypatch, capsys, tmp_path):
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graph.run", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_app(app)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def one_sentence(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


def test_servers_that_cannot_be_started_here_are_refused_before_there_is_a_run(graph_run, tmp_path) -> None:
    pytest.importorskip("vllm")
    from roles.serving.command import built_for_cpu

    wrong = "serve.sleep=true" if built_for_cpu() else "serve.replicas=1000"
    code, _, err = graph_run("--plain", "--set", "serve.backend=vllm", "--set", wrong)
    assert code == 2
    assert one_sentence(err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--help"], "--resume"), (["--dry-run", "configs/paper-7b-4xh100.toml"], "GPU-hours")]
)
def test_help_and_a_dry_run_read_well_and_start_at_once(arguments, word):
    command = [sys.executable, "-X", "importtime", "-m", "graph.run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env={**os.environ, "COLUMNS": "100"})
    assert word in done.stdout
    heavy = ("torch", "transformers", "trl", "langgraph", "docker", "sklearn")
    assert {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}.isdisjoint(heavy)


def test_dry_run_prints_settings_that_can_be_read_back(graph_run, tmp_path):
    code, out, _ = graph_run("--set", "seed=7", "--set", "play.episodes=3", "--dry-run")
    assert code == 0
    (tmp_path / "again.toml").write_text(out)
    assert graph_run("again.toml", "--dry-run")[1] == out
    assert "seed = 7" in out
    assert not (tmp_path / "runs").exists()


def test_dry_run_says_what_would_run_before_the_settings(graph_run, tmp_path):
    code, out, err = graph_run("--dry-run", str(ROOT / "configs" / "paper-7b-4xh100.toml"))
    assert (code, err) == (0, "")
    plan_text, settings = out.split("\n\n", 1)
    assert all(line.startswith("# ") for line in plan_text.splitlines())
    for words in (
        "Qwen/Qwen2.5-Coder-7B, of the hub",
        "livecodebench?paper=train&errata=drop: of the hub",
        "GPU 0 | GPU 1 | GPU 2 | GPU 3",
        "zero3",
        "GPU-hours",
    ):
        assert words in plan_text
    assert tomllib.loads(out) == tomllib.loads(settings)
    assert tomllib.loads(out)["learn"]["processes"] == 4
    assert not (tmp_path / "runs").exists()


def test_dry_run_counts_what_is_here(graph_run, tmp_path):
    question = {"statement": "s", "private": [{"input": "1", "output": "1"}]}
    (tmp_path / "goals.jsonl").write_text("".join(json.dumps({**question, "statement": text}) + "\n" for text in "abc"))
    out = graph_run("--dry-run", "--set", "goalposts=goals.jsonl", "--set", "test=none")[1]
    assert "# goalposts     goals.jsonl: 3 questions\n" in out
    assert "# practice      pocket: 400 questions\n" in out
    assert "# test          none\n" in out


def test_dry_run_takes_a_price_and_a_gpu(graph_run):
    config = str(ROOT / "configs" / "qwen-1.5b-1gpu.toml")
    assert "at 2.50 an hour and H100" in graph_run("--dry-run", config)[1]
    assert "at 9.00 an hour and A100" in graph_run("--dry-run", config, "--gpu", "A100", "--price", "9")[1]
    assert "warning: memory does not fit" in graph_run("--dry-run", config, "--gpu", "L4")[1]
    code, _, err = graph_run("--dry-run", config, "--gpu", "abacus")
    assert (code, one_sentence(err)) == (2, True)
    code, _, err = graph_run(config, "--price", "9")
    assert (code, one_sentence(err), "--dry-run" in err) == (2, True, True)


@pytest.mark.parametrize("model", ["someone/unknown-9b", "/no/such/model", "x\n# y"])
def test_dry_run_of_a_model_that_is_not_known_estimates_nothing_and_says_why(graph_run, model):
    code, out, _ = graph_run("--dry-run", "--set", f"model={json.dumps(model)}")
    assert code == 0
    assert "# estimates     none: " in out
    assert tomllib.loads(out)["model"] == model


def test_no_setting_breaks_out_of_the_comments(graph_run):
    hostile = json.dumps("0\nseed = 9\x1b[2J\u2028")
    settings = [
        part for key in ("learn.devices", "serve.devices", "prompts", "model") for part in ("--set", f"{key}={hostile}")
    ]
    code, out, _ = graph_run("--dry-run", *settings, "--set", f"serve.urls=[{hostile}]", "--set", "serve.backend=vllm")
    assert code == 0
    assert "\x1b" not in out
    assert tomllib.loads(out)["seed"] == 0


def test_dry_run_names_a_question_set_that_there_is_not(graph_run):
    code, _, err = graph_run("--dry-run", "--set", "goalposts=livecodebench?release=v99")
    assert (code, one_sentence(err)) == (2, True)
    assert "v99" in err


def test_a_dozen_settings_are_listed_or_all_of_them_with_what_they_take(graph_run):
    code, out, _ = graph_run("--settings")
    assert (code, "learn.learning_rate" in out, "play.max_attempts" in out) == (0, True, False)
    assert len(out.splitlines()) < 60
    code, out, _ = graph_run("--settings", "--all")
    assert code == 0
    assert all(key in out for key, _, _ in all_settings())
    assert "lockstep," in out


def test_settings_that_nobody_could_write_down_are_no_success():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "graph.run", "--settings"]
        ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, one_sentence(ended.stderr)) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "play.epsodes=4"], ["play.epsodes", "did you mean"]),
        (["absent.toml"], ["absent.toml"]),
        (["--set", "model=/no/such/model"], ["/no/such/model", "config.json"]),
        (["--set", "goalposts=/no/such/file.jsonl"], ["/no/such/file.jsonl"]),
        (["--set", "prompts=/no/such/prompts"], ["/no/such/prompts"]),
        (["--resume", "run-999"], ["run-999", "no run"]),
        (["--resume", "run-999", "--set", "seed=1"], ["--resume", "leave out"]),
        (["--set", "verify.embedding=vibes"], ["vibes", "ngrams"]),
        (["--set", "play.public_pairs=5"], ["play", "fewer than pairs"]),
        (["--set", "play.student.temperature=0"], ["temperature"]),
        (["--set", "rewards.wrong=nan"], ["rewards.wrong", "finite"]),
        (["--runs", "/proc/nowhere"], ["/proc/nowhere"]),
        (["--name", "../elsewhere"], ["../elsewhere", "--name"]),
        (["--log", "runs.sqlite"], ["runs.sqlite", "postgresql://user@host/database"]),
        (["--log", "postgresql://me:***@host/db"], ["host/db", "password", "PGPASSWORD"]),
        (["--log", "postgresql://host/db?sslpassword=***"], ["host/db", "password", "PGPASSWORD"]),
        (["--log", "postgresql://host/db", "--name", "Mine"], ["'Mine'", "cannot name a run"]),
        (["--resume", "run-999", "--log", "postgresql://host/db"], ["--resume", "leave out"]),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(graph_run, tmp_path, arguments, words):
    code, _, err = graph_run(*arguments)
    assert code == 2
    assert one_sentence(err), err
    assert all(word in err for word in words), err
    assert not (tmp_path / "runs").exists()


def test_broken_toml_is_named_with_its_line(graph_run, tmp_path):
    (tmp_path / "bad.toml").write_text("seed = 1\n[play\n")
    code, _, err = graph_run("bad.toml")
    assert (code, one_sentence(err)) == (2, True)
    assert "bad.toml" in err
    assert "line 2" in err


def test_a_malformed_goalpost_is_named_with_file_line_and_field(graph_run, tmp_path):
    good = {"statement": "s", "private": [{"input": "1", "output": "1"}]}
    bad = {"statement": "s", "private": [{"input": 1, "output": "1"}]}
    (tmp_path / "goals.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    code, _, err = graph_run("--set", "goalposts=goals.jsonl")
    assert (code, one_sentence(err)) == (2, True)
    assert "goals.jsonl, line 2, field private.0.input" in err


def test_broken_weights_are_named_before_anything_starts(graph_run, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(WEIGHTS, model)
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    code, _, err = graph_run("--set", f"model={model}")
    assert (code, one_sentence(err)) == (2, True)
    assert "model.safetensors" in err
    assert not (tmp_path / "runs").exists()


def a_run(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        example_run(log).run(**config)
    return folder


def test_a_run_with_settings_of_another_version_is_refused(graph_run, tmp_path):
    a_run(tmp_path / "runs" / "old", goblins=3)
    code, _, err = graph_run("--resume", "old")
    assert (code, one_sentence(err)) == (2, True)
    assert "'goblins'" in err


def test_a_resume_refuses_inputs_that_changed(graph_run, tmp_path):
    run = a_run(tmp_path / "runs" / "mine")
    with closing(open_log(run / "log.sqlite")) as log:
        weights = run / "weights" / run_started(log).policies["student"]
    weights.mkdir(parents=True)
    shutil.copy(WEIGHTS / "tokenizer.json", weights)
    code, _, err = graph_run("--resume", "mine")
    assert (code, one_sentence(err)) == (2, True)
    assert "changed since the run started" in err


def test_a_run_of_another_schema_is_refused_and_kept(graph_run, tmp_path):
    folder = tmp_path / "runs" / "old"
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "log.sqlite") as database:
        database.execute("CREATE TABLE something (else_ TEXT)")
    before = (folder / "log.sqlite").read_bytes()
    code, _, err = graph_run("--resume", "old")
    assert (code, one_sentence(err)) == (2, True)
    assert (folder / "log.sqlite").read_bytes() == before


def test_a_server_that_does_not_answer_is_said_and_nothing_is_left_behind(graph_run, tmp_path):
    code, _, err = graph_run("--log", "postgresql://127.0.0.1:1/db", "--name", "mine")
    assert (code, one_sentence(err)) == (1, True)
    assert "127.0.0.1/db, run mine cannot be reached" in err
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_in_the_database_is_not_overwritten(graph_run, tmp_path, postgres):
    with closing(open_log(f"{postgres}?run=taken", create=True)) as log:
        example_run(log).run()
        head = log.head()
        code, _, err = graph_run("--log", f"{postgres}?run=taken", "--name", "mine")
        assert (code, one_sentence(err)) == (2, True)
        assert "holds a run of this name" in err
        assert log.head() == head
    assert not list((tmp_path / "runs").iterdir())


def test_a_folder_with_two_logs_is_refused(graph_run, tmp_path, postgres):
    (a_run(tmp_path / "runs" / "two") / "log.url").write_text(f"{postgres}?run=two\n")
    code, _, err = graph_run("--resume", "two")
    assert (code, one_sentence(err)) == (2, True)
    assert "holds both log.sqlite and log.url" in err


def test_an_existing_run_is_not_overwritten(graph_run, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    code, _, err = graph_run("--name", "mine")
    assert (code, one_sentence(err)) == (2, True)
    assert "--resume" in err


def test_without_docker_the_run_stops_with_the_cure_and_can_go_on(tmp_path):
    arguments = ("--plain", "--name", "x", "--runs", tmp_path / "runs")
    small = ("play.iterations=0", "evaluate.questions=1", "evaluate.attempts=1")
    nobody = f"unix://{tmp_path}/nobody.sock"
    process = start_command("graph.run", *arguments, settings=small, fresh=False, DOCKER_HOST=nobody)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "DOCKER_HOST" in err
    assert "--resume" in out
    assert (tmp_path / "runs" / "x" / "log.sqlite").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said_before_anything_starts(graph_run, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("no right to mount here")
    try:
        code, _, err = graph_run("--runs", str(small / "runs"))
        assert code == 2
        assert "free" in err
        assert err.count("\n") == 1
        assert not list((small / "runs").iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_run_names_the_optimizers_state_that_it_starts_with(tmp_path):
    config = Config()
    inputs = read_inputs(config)
    with closing(create_run(tmp_path / "run", config, inputs)) as log:
        assert run_started(log).inputs == {**inputs.digests(), "optimizer": optimizer_digest(inputs.model)}
