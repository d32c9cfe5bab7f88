"""`python -m roles prompts`."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question
from roles.__main__ import app
from roles.pocket import WEIGHTS
from roles.prompt import Prompts
from roles.prompt_set import PROMPT_NAMES, SHIPPED_PROMPTS, shipped_sets
from roles.questions.load import load_questions


def said(*arguments: str) -> str:
    ended = CliRunner().invoke(app, ["prompts", *arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    question = Question(
        statement="\x1b[31mred\x1b[0m [bold]x[/bold] {{pairs}}\u202e",
        mode="stdin",
        public=(IOPair(input="1 2", output="3"),),
        private=(IOPair(input="70 1", output="71"),),
    )
    path = tmp_path / "hostile.jsonl"
    path.write_text(question.model_dump_json())
    return str(path)


@pytest.mark.parametrize("axis", ["io", "function"])
@pytest.mark.parametrize("prompt", PROMPT_NAMES)
@pytest.mark.parametrize("name", shipped_sets())
def test_any_prompt_is_shown_on_a_real_question(name: str, prompt: str, axis: str) -> None:
    shown = said("show", name, prompt, "--axis", axis)
    question = load_questions("pocket", "goalposts" if prompt == "easy" else "train").questions[0]
    head, text = shown.split("\n--- text\n")
    assert question.statement in text or question.program in text
    assert f"question: {question.id}\n" in head + "\n"
    prompts = Prompts.named(name)
    data = json.loads(said("show", name, prompt, "--axis", axis, "--json"))
    assert data["text"] in text
    assert (data["hash"], data["version"]) == (
        prompts.templates[data["prompt"]].hash,
        prompts.templates[data["prompt"]].version,
    )
    assert f"hash: {data['hash']}\n" in head
    assert (data["system"] or "") in head
    assert tuple(data["stop"]) == prompts.rules.stop


def test_the_teachers_prompts_say_the_axis_that_was_asked_for() -> None:
    assert "# Vary: function" in said("show", "pocket", "hard", "--axis", "function")
    assert "prompt: easy.function\n" in said("show", "base", "easy", "--axis", "function")


def test_hostile_statements_change_no_terminal_and_json_has_them_whole(hostile: str) -> None:
    shown = said("show", "instruct", "induction", "--questions", hostile)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]x[/bold] {{pairs}}" in shown
    assert "Input:\n1 2\nOutput:\n3\n" in shown
    output = said("show", "instruct", "induction", "--questions", hostile, "--json")
    assert output.isascii()
    assert "\x1b[31mred" in json.loads(output)["text"]


def test_tokens_are_counted_as_the_model_would_see_the_whole_prompt() -> None:
    from transformers import AutoTokenizer

    data = json.loads(said("show", "pocket", "hard", "--model", str(WEIGHTS), "--json"))
    assert data["tokens"] == len(AutoTokenizer.from_pretrained(WEIGHTS)(data["text"])["input_ids"])
    assert "tokens" not in json.loads(said("show", "pocket", "hard", "--json"))


def test_the_list_has_a_row_for_each_prompt_with_the_hash_of_the_events(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in said("list", "--json").splitlines()]
    assert {row["set"] for row in rows} == set(shipped_sets())
    (row,) = [row for row in rows if (row["set"], row["prompt"]) == ("base", "abduction")]
    assert row["hash"] == hashlib.sha256((SHIPPED_PROMPTS / "base" / "abduction.md").read_bytes()).hexdigest()
    people = said("list")
    assert all(row["prompt"] in people and row["hash"][:8] in people for row in rows)
    only = [json.loads(line) for line in said("list", str(SHIPPED_PROMPTS / "base"), "--json").splitlines()]
    assert {row["hash"] for row in only} == {row["hash"] for row in rows if row["set"] == "base"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("show", "base", "medium"), "no prompt 'medium'"),
        (("show", "bass", "easy"), "no prompt set 'bass'"),
        (("list", "bass"), "no prompt set 'bass'"),
        (("show", "base", "easy", "--number", "9999"), "--number is 9999"),
        (("show", "base", "hard", "--questions", "HOSTILE"), "has no program"),
    ],
)
def test_bad_input_says_why(arguments: tuple[str, ...], why: str, hostile: str) -> None:
    with pytest.raises(BadInput, match=why):
        said(*(hostile if argument == "HOSTILE" else argument for argument in arguments))


def test_help_loads_nothing_heavy_and_bad_input_is_one_sentence() -> None:
    code = "import sys; from roles.__main__ import app; app(['prompts', 'show', '--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "roles.prompt" in loaded.split()
    assert not {"torch", "transformers", "vllm", "docker", "datasets"} & set(loaded.split())
    failed = subprocess.run(
        [sys.executable, "-m", "roles", "prompts", "list", "bass"], check=False, capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
