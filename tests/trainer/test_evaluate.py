"""Evaluation from the command line, with the shipped model and the real sandbox."""

from __future__ import annotations

import json
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.types import AttemptsMade, AttemptsVerified, EvaluationFinished
from events.facts.weights import weights_digest
from events.pure.estimators import pass_at_k, pass_at_k_interval
from graph.settings.config import Config
from graph.setup.folder import create_run
from graph.setup.run_inputs import read_inputs
from roles.pocket import QUESTIONS, WEIGHTS
from roles.questions.load import load_questions
from tests.support.example_runs import example_run, policy_updated
from tests.support.processes import start_command
from trainer.evaluate import app
from trainer.evaluation.evaluated_questions import question_set

pytestmark = [pytest.mark.docker, pytest.mark.slow]

POCKET = weights_digest(WEIGHTS)
SMALL = ("--attempts", "4", "--questions", "3", "-k", "1,2,4")


def run_command(*arguments: object) -> str:
    """What the command prints, run in this process, which has torch already."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def answers(log: Log, stream: str) -> list[AttemptsMade]:
    return [event.fact for event in log.read(stream) if isinstance(event.fact, AttemptsMade)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose student has learned once, with weights that happen to be the shipped ones."""
    folder = tmp_path_factory.mktemp("runs") / "base"
    config = Config(verify={"workers": 1})
    with closing(create_run(folder, config, read_inputs(config))) as log:
        learned = policy_updated(iteration=1, after=0, until=1, parent=POCKET)
        example = example_run(log, policy=POCKET).goalpost().start().episode().finish()
        example.log.append("policy/shared", [learned.model_copy(update={"digest": POCKET})])
    return folder


def test_an_evaluation_of_a_run_is_in_its_log_and_says_how_sure_it_is(run):
    result = json.loads(run_command(run, "--set", "practice", *SMALL, "--json"))
    with closing(open_run(str(run))) as log:
        (fact,) = [e.fact for e in log.read(result["stream"]) if isinstance(e.fact, EvaluationFinished)]
        assert len(answers(log, result["stream"])) == 3
        assert log.verify() is None
    assert (fact.policy, fact.iteration, fact.attempts) == (POCKET, 1, 4)
    assert fact.name.startswith("practice-")
    counts = list(fact.successes.values())
    for k in (1, 2, 4):
        interval = pass_at_k_interval(4, counts, k)
        assert result["pass_at"][str(k)] == {"value": pass_at_k(4, counts, k), "low": interval.low, "high": interval.high}


def test_what_is_examined_already_is_only_shown(run):
    command = ("base", "--runs", run.parent, "--set", "test", *SMALL, "--policy", POCKET[:8])
    first = run_command(*command)
    with closing(open_run(str(run))) as log:
        head = log.head()
        assert run_command(*command) == first
        assert log.head() == head
    assert "pass@4" in first
    assert "95% interval" in first


def test_how_sure_a_policy_is_of_its_greedy_answers_is_measured_once(run):
    command = (run, "--set", "practice", "--questions", "4", "--certainty")
    result = json.loads(run_command(*command, "--json"))
    with closing(open_run(str(run))) as log:
        head, kinds = log.head(), [event.fact.kind for event in log.read(result["stream"])]
        assert kinds == ["attempts_made", "attempts_verified"] * 4 + ["evaluation_finished", "calibration_finished"]
        fact = result["calibration"]
        scores = json.loads(log.get(fact["scores"]))
        assert (result["attempts"], result["sampling"]["temperature"], fact["answers"], len(scores)) == (1, 0.0, 4, 4)
        assert fact["passed"] == sum(passed for _, passed, _, _ in scores) == sum(result["successes"].values()) > 0
        assert all(0 < value < 1 for score in scores for value in score[2:])
        assert "average precision" in run_command(*command)
        assert log.head() == head


def test_a_model_gets_a_log_of_its_own_and_is_sampled_as_a_run_samples_it(run, tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "mine")
    alone = json.loads(run_command(tmp_path / "mine", "--runs", tmp_path, *SMALL, "--json"))
    assert alone["folder"] == str(tmp_path / f"evaluation-{POCKET[:12]}")
    within = json.loads(run_command(run, *SMALL, "--json"))
    assert (alone["name"], alone["stream"], alone["successes"]) == (within["name"], within["stream"], within["successes"])


def test_other_sampling_and_other_questions_are_another_evaluation(run):
    (run.parent / "own.jsonl").write_text("\n".join((QUESTIONS / "test.jsonl").read_text().splitlines()[:2]))
    names = [
        json.loads(run_command(run, "--set", which, "--attempts", "2", "-k", "1", "--questions", "2", *more, "--json"))["name"]
        for which, more in (("test", ()), ("test", ("--temperature", "1")), (run.parent / "own.jsonl", ()))
    ]
    assert len(set(names)) == 3
    assert names[2].startswith("own-")


def test_a_run_whose_log_is_in_postgresql_is_examined_there(postgres, tmp_path):
    config = Config(verify={"workers": 1})
    with closing(create_run(tmp_path / "far", config, read_inputs(config), f"{postgres}?run=examined")) as log:
        result = json.loads(run_command("far", "--runs", tmp_path, *SMALL, "--json"))
        kinds = [event.fact.kind for event in log.read(result["stream"])]
        assert kinds == ["attempts_made", "attempts_verified"] * 3 + ["evaluation_finished"]
        assert (result["iteration"], result["policy"]) == (0, POCKET)


def test_ctrl_c_loses_little_and_nothing_is_sampled_twice(tmp_path):
    command = ("pocket", "--runs", tmp_path, "--attempts", "64", "--questions", "8", "-k", "1", "--json")
    process = start_command("trainer.evaluate", *command, fresh=False)
    folder = tmp_path / f"evaluation-{POCKET[:12]}"
    deadline = time.monotonic() + 120
    while not folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with closing(open_run(str(folder))) as log:
        while not any(log.read(kinds={"attempts_verified"}, limit=1)) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1] == "Stopped; verified completions are kept. Repeat the command to go on."
        before = [event.hash for event in log.read()]
        result = json.loads(run_command(*command))
        after = list(log.read())
        assert [event.hash for event in after[: len(before)]] == before
        questions = [fact.question for fact in answers(log, result["stream"])]
        assert 0 < len(before) < len(after)
        assert len(questions) == len(set(questions)) == 8
        verified = [event.fact for event in after if isinstance(event.fact, AttemptsVerified)]
        passed = sum(verdict.outcome == "passed" for fact in verified for verdict in fact.verdicts)
        assert passed == sum(result["successes"].values())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nobody",), "neither a run nor a model"),
        (("pocket", "-k", "50"), "raise --attempts"),
        (("pocket", "-k", "many"), "no list of numbers"),
        (("pocket", "--attempts", "0"), "attempts"),
        (("pocket", "--set", "nothing.jsonl"), "no question set"),
        (("base", "--policy", "0000"), "No weights of .* have a digest that starts with .0000"),
        (("pocket", "--policy", "0000"), "for runs"),
        (("base", "--config", "my.toml"), "for models"),
    ],
)
def test_what_makes_no_sense_is_refused(run, arguments, problem):
    with pytest.raises(BadInput, match=problem):
        run_command(*arguments, "--runs", run.parent)


def test_a_run_names_its_validation_questions_as_it_does_its_test_questions():
    assert (
        question_set(Config(validation="pocket"), "validation", WEIGHTS).questions
        == load_questions("pocket", "validation").questions
    )
    with pytest.raises(BadInput, match="no validation set"):
        question_set(Config(), "validation", WEIGHTS)
