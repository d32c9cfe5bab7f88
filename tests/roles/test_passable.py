"""Questions that no attempt could pass are told of before anything is sampled, whatever they come from."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question
from graph.settings.config import Config
from graph.setup.run_inputs import read_inputs
from roles.commands.questions import questions_app
from roles.pocket import WEIGHTS
from roles.prompt import Prompts
from roles.questions.passable import PromptWindow, unpassable_reason
from roles.questions.question_set import save_questions
from trainer.evaluation.evaluated_questions import question_set


def asked(output, mode="function", public=()):
    return Question(statement="What?", mode=mode, public=public, private=(IOPair(input="1", output=output),))


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (asked(repr("x" * 900)), None),
        (asked(repr("x" * 1022)), None),
        (asked(repr("x" * 1023)), r"private.0.output takes more than 1 KiB, verify.output_kb is 1"),
        (asked(repr(list(range(300)))), "private.0.output takes"),
        (asked(repr(list(range(300))).replace(" ", "")), "private.0.output takes"),
        (asked("[1,2]" + " " * 5000), None),
        (asked("ä" * 600, "stdin"), "private.0.output takes 2 KiB, verify.output_kb is 1"),
        (asked("1  \n" * 300, "stdin"), None),
        (asked("1", public=(IOPair(input="1", output=repr("x" * 2000)),)), "public.0.output takes"),
    ],
)
def test_what_no_program_may_give_is_seen(question, told):
    reason = unpassable_reason(question, 1)
    assert reason is None if told is None else told in (reason or "")


def test_a_prompt_that_would_be_cut_is_seen_and_no_tokenizer_is_asked_where_none_could_be():
    window = PromptWindow(Prompts.named("pocket"), 40, lambda: WEIGHTS)
    assert "prompt of" in (window.exceeded(asked("1").model_copy(update={"statement": "add 1 " * 50})) or "")
    short = PromptWindow(Prompts.named("pocket"), 4000, lambda: pytest.fail("the tokenizer is asked for"))
    assert short.exceeded(asked("1")) is None


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.jsonl"
    save_questions(path, [asked("1"), asked(repr("x" * 70_000)), asked("2")])
    return path


@pytest.mark.parametrize("use", ["goalposts", "practice", "test", "validation"])
def test_every_set_of_a_run_is_played_without_them(file, use, capsys):
    config = Config(**{use: str(file)})
    inputs = read_inputs(config)
    questions = inputs.goalposts.questions if use == "goalposts" else getattr(inputs, use)
    assert [question.private[0].output for question in questions] == ["1", "2"]
    err = capsys.readouterr().err
    assert f"{use}: no attempt could pass 1 of 3 questions" in err
    assert "line 2: private.0.output takes more than 64 KiB, verify.output_kb is 64" in " ".join(err.split())
    assert len(question_set(config, use, WEIGHTS).questions) == 2


def test_a_set_of_nothing_else_is_refused(tmp_path):
    save_questions(tmp_path / "mine.jsonl", [asked(repr("x" * 70_000))])
    with pytest.raises(
        BadInput, match=r"goalposts: no attempt could pass 1 of 1 questions .*line 1.*verify\.output_kb.* none is left"
    ):
        read_inputs(Config(goalposts=str(tmp_path / "mine.jsonl")))


def test_validation_names_them(file):
    done = CliRunner().invoke(questions_app, ["validate", str(file)])
    assert done.exit_code == 1
    assert "line 2: no attempt could pass it: private.0.output takes more than 64 KiB, verify.output_kb is 64" in done.stdout
    assert CliRunner().invoke(questions_app, ["validate", str(file), "--output-kb", "100"]).exit_code == 0
    options = ["--output-kb", "100", "--model", str(WEIGHTS), "--prompts", "pocket", "--max-prompt-tokens", "2"]
    narrow = CliRunner().invoke(questions_app, ["validate", str(file), *options])
    assert narrow.exit_code == 1
    assert narrow.stdout.count("max_prompt_tokens is 2") == 3


def test_rules_follow_each_set(tmp_path):
    own = tmp_path / "own.jsonl"
    save_questions(own, [asked("1")])
    record = {
        "task_id": "HumanEval/0",
        "prompt": 'from math import gcd\n\n\ndef f(x):\n    """Itself."""\n',
        "entry_point": "f",
    }
    record |= {"canonical_solution": "    return x\n", "test": "def check(candidate):\n    assert candidate(1) == 1\n"}
    (tmp_path / "he.jsonl").write_text(json.dumps(record))
    inputs = read_inputs(Config(goalposts=str(own), test=f"humaneval:{tmp_path / 'he.jsonl'}"))
    (question,) = inputs.test
    assert question.context == "from math import gcd"
    assert inputs.rules == {question.id: "evalplus"}
