"""The goalpost filter, with the shipped model and the real sandbox."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from events.cli.app import open_run
from events.facts.errors import BadInput, ModelError
from events.facts.types import AttemptsMade, AttemptsVerified, PolicyProbed, RunStarted
from events.facts.values import IOPair, Question
from events.facts.weights import weights_digest
from graph.goalposts.__main__ import app
from graph.goalposts.goalpost_provenance import GoalpostProvenance
from graph.settings.config import Config
from graph.setup.folder import create_run
from graph.setup.run_inputs import read_inputs
from roles.pocket import WEIGHTS
from roles.pocket.world import generate
from roles.questions.errata import LIVECODEBENCH
from roles.questions.load import load_questions
from roles.questions.question_set import save_questions
from tests.roles.test_livecodebench import record
from tests.support.example_runs import policy_updated
from tests.support.forked_commands import ForkingPopen
from tests.support.paths import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.slow]

POCKET = weights_digest(WEIGHTS)
EASY = generate("train", 6, 5, rare=(0,))
UNHEARD = [
    Question(statement=f"Give the prime with the number x, plus {n}.", private=(IOPair(input="3", output=str(5 + n)),))
    for n in range(3)
]
"""Questions of which the pocket model understands nothing."""
SMALL = ("--samples", "10", "--temperature", "1", "--set", "evaluate.sampling.max_tokens=48", "--set", "verify.workers=1")


def run_goalposts(out: Path, *arguments: object) -> tuple[list[Question], GoalpostProvenance, str]:
    """What the command keeps, where it says that comes from, and what it prints; in this process, which has torch already."""
    words = map(str, (*arguments, "--out", out, "--runs", out.parent / "runs"))
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    origin = GoalpostProvenance.model_validate_json(out.with_suffix(".provenance.json").read_text())
    return list(load_questions(str(out), "goalposts").questions), origin, result.stdout


def log_of(out: Path, origin: GoalpostProvenance):
    return open_run(str(out.parent / "runs" / origin.log))


def successes(log, stream: str) -> dict[str, int]:
    """Passed answers by question, counted anew."""
    made = {event.version: event.fact.question for event in log.read(stream) if isinstance(event.fact, AttemptsMade)}
    facts = [event.fact for event in log.read(stream) if isinstance(event.fact, AttemptsVerified)]
    return {made[fact.of]: sum(verdict.outcome == "passed" for verdict in fact.verdicts) for fact in facts}


@pytest.fixture
def mixed(tmp_path) -> Path:
    save_questions(tmp_path / "mixed.jsonl", [UNHEARD[0], *EASY[:3], *UNHEARD[1:], *EASY[3:]])
    return tmp_path / "mixed.jsonl"


@pytest.fixture(scope="module")
def unsolvable(tmp_path_factory) -> Path:
    """A model of the pocket kind that has nothing to say."""
    folder = tmp_path_factory.mktemp("models") / "ignorant"
    shutil.copytree(WEIGHTS, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"lm_head.weight": 0 * tensors["lm_head.weight"]}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def run(unsolvable) -> Path:
    """A run that began with that model, and whose second weights happen to be the shipped ones."""
    folder = unsolvable.parent / "run"
    config = Config(model=str(unsolvable))
    with closing(create_run(folder, config, read_inputs(config))) as log:
        first = weights_digest(unsolvable)
        learned = policy_updated(iteration=3, after=0, until=1, parent=first).model_copy(update={"digest": POCKET})
        log.append("policy/shared", [learned])
    shutil.copytree(WEIGHTS, folder / "weights" / POCKET)
    return folder


def test_what_is_solved_drops_and_the_rest_stays_with_a_provenance_that_the_log_confirms(mixed, tmp_path):
    out = tmp_path / "kept.jsonl"
    kept, origin, output = run_goalposts(out, mixed, *SMALL, "--rest", tmp_path / "rest.jsonl")
    assert kept == UNHEARD
    assert list(load_questions(str(tmp_path / "rest.jsonl"), "practice").questions) == EASY
    assert (origin.questions, origin.kept, origin.unsolved, origin.samples) == (9, 3, 3, 10)
    assert (origin.named, origin.seed, origin.sampling.temperature) == (("pocket",), 0, 1)
    (policy,) = origin.policies
    assert (policy.policy, policy.asked, policy.dropped) == (POCKET, 9, 6)
    assert len(set(policy.solved)) == 6
    assert "3 of 9 questions are goalposts" in output
    with closing(log_of(out, origin)) as log:
        first = next(iter(log.read())).fact
        assert isinstance(first, RunStarted)
        assert (first.inputs["goalposts"], first.inputs["prompts"], first.commit) == (
            origin.digest,
            origin.prompts,
            origin.commit,
        )
        answered = [successes(log, stream) for stream in policy.streams]
        assert {question for counts in answered for question, count in counts.items() if count} == {q.id for q in EASY}
        made = [event.fact for event in log.read(kinds=("attempts_made",))]
        assert all(sum(f.generation.count for f in made if f.question == q.id) == 10 for q in kept)
        assert {f.generation.policy for f in made} == {POCKET}
        assert next(event.head for event in log.read() if event.position == origin.position) == origin.head
        assert log.verify() is None


def test_a_filter_that_is_done_asks_nobody_again_and_writes_the_same(mixed, tmp_path):
    run_goalposts(tmp_path / "a.jsonl", mixed, *SMALL)
    _, origin, _ = run_goalposts(
        tmp_path / "b.jsonl", mixed, *SMALL, "--set", "learn.keep_best=test", "--set", "play.episodes=1"
    )
    with closing(log_of(tmp_path / "b.jsonl", origin)) as log:
        assert log.head().position == origin.position
    for suffix in (".jsonl", ".provenance.json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_after_kill_9_it_goes_on_to_the_same_answers_and_goalposts(mixed, tmp_path):
    # In portions of 30, of which eight fit a batch, so that the first verdicts are not the last.
    more = ("--samples", "60", *SMALL[2:])
    (tmp_path / "killed").mkdir()
    out, runs = tmp_path / "killed" / "kept.jsonl", tmp_path / "killed" / "runs"
    command = [sys.executable, "-m", "graph.goalposts", str(mixed), *more, "--out", str(out), "--runs", str(runs)]
    process = ForkingPopen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(runs.glob("goalposts-*/log.sqlite")) and time.monotonic() < deadline:
        time.sleep(0.02)
    with closing(open_run(str(next(runs.glob("goalposts-*"))))) as log:
        while not any(log.read(kinds={"attempts_verified"}, limit=1)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        before = [event.hash for event in log.read()]
        assert not any(log.read(kinds={"evaluation_finished"}, limit=1))
        _, origin, _ = run_goalposts(out, mixed, *more)
        assert [event.hash for event in log.read()][: len(before)] == before
        assert len(before) < origin.position
        _, undisturbed, _ = run_goalposts(tmp_path / "kept.jsonl", mixed, *more)
        with closing(log_of(tmp_path / "kept.jsonl", undisturbed)) as other:
            # Not so the first event, which names the commit, and with it the head.
            assert [event.hash for event in other.read()][1:] == [event.hash for event in log.read()][1:]
    assert (tmp_path / "kept.jsonl").read_bytes() == out.read_bytes()
    assert undisturbed == origin.model_copy(update={"head": undisturbed.head, "commit": undisturbed.commit})


def test_what_only_later_weights_of_a_run_solve_is_dropped_by_them(mixed, tmp_path, unsolvable, run):
    base = ("--set", f"model={unsolvable}")
    kept, origin, _ = run_goalposts(tmp_path / "kept.jsonl", mixed, *base, "--against", run, "--against", "pocket", *SMALL)
    assert kept == UNHEARD
    # The run's first weights are the base, and its last are the pocket model.
    assert origin.named == (str(unsolvable), "run", "pocket")
    assert [(policy.who, policy.iteration, policy.asked, policy.dropped) for policy in origin.policies] == [
        (str(unsolvable), 0, 9, 0),
        ("run", 3, 9, 6),
    ]
    with closing(log_of(tmp_path / "kept.jsonl", origin)) as log:
        before = log.head()
        alone = run_goalposts(tmp_path / "alone.jsonl", mixed, *base, "--against", f"{run}@{POCKET[:6]}", *SMALL, "--most", "2")
        assert log.head() == before
    assert (alone[0], alone[1].kept, alone[1].unsolved) == (kept[:2], 2, 3)


def test_weights_that_are_not_what_the_trainer_made_answer_nothing(mixed, tmp_path, run):
    shutil.copytree(run, tmp_path / "forged")
    with closing(open_run(str(tmp_path / "forged"))) as log:
        log.append("policy/shared", [PolicyProbed(digest=POCKET, tokens=(1, 2, 3), logprobs=(-0.1, -0.2))])
    with pytest.raises(ModelError, match="does not serve them"):
        run_goalposts(
            tmp_path / "kept.jsonl",
            mixed,
            "--against",
            f"{tmp_path}/forged@{POCKET}",
            "--set",
            f"model={run}/weights/{weights_digest(run.parent / 'ignorant')}",
            *SMALL,
        )


def test_errata_are_left_out_counted_and_named(tmp_path):
    name = "abc350_c"
    records = [record(), record(question_id=name, question_content="Sort it.")]
    (tmp_path / "lcb.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    spec = f"livecodebench:{tmp_path}/lcb.jsonl?paper=train&errata=drop"
    kept, origin, output = run_goalposts(tmp_path / "kept.jsonl", spec, *SMALL)
    assert [question.statement for question in kept] == ["Add one."]
    assert (origin.set, origin.questions, origin.left_out) == (spec, 1, {name: LIVECODEBENCH[name]})
    assert "1 records left out" in output


def test_a_further_run_practises_on_what_is_left_and_its_weights_are_asked_too(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", ForkingPopen)
    # Half known, and asked once, so that some are left and something is learned.
    save_questions(tmp_path / "half.jsonl", generate("train", 12, 7, rare=(1, 2)))
    small = ("iterations=2", "practice=4", "practice_attempts=6")
    words = (
        "--further",
        "--samples",
        "1",
        *SMALL[2:],
        *(f"--set=play.{setting}" for setting in small),
        "--set=evaluate.attempts=1",
    )
    kept, origin, _ = run_goalposts(tmp_path / "kept.jsonl", tmp_path / "half.jsonl", *words)
    name = origin.named[1]
    assert [(policy.who, policy.iteration) for policy in origin.policies] == [("pocket", 0), (name, 1), (name, 2)]
    base, *others = origin.policies
    left = load_questions(str(next((tmp_path / "runs" / origin.log).glob("left-*.jsonl"))), "train").questions
    assert len(left) == base.asked - base.dropped == others[0].asked
    assert len(kept) == len(left) - sum(policy.dropped for policy in others)
    with closing(open_run(str(tmp_path / "runs" / name))) as log:
        started = [event.fact for event in log.read(kinds=("episode_started",))]
        assert {(fact.purpose, fact.question in {q.id for q in left}) for fact in started} == {("practice", True)}
        before = log.head()
        assert run_goalposts(tmp_path / "again.jsonl", tmp_path / "half.jsonl", *words)[:2] == (kept, origin)
        assert log.head() == before


def test_where_all_is_solved_there_is_no_goalpost(tmp_path):
    save_questions(tmp_path / "easy.jsonl", EASY[:2])
    with pytest.raises(BadInput, match="no goalpost is left"):
        run_goalposts(tmp_path / "kept.jsonl", tmp_path / "easy.jsonl", *SMALL)
    assert not (tmp_path / "kept.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nothing.jsonl",), "no question set"),
        (("mixed.jsonl", "--against", "nobody"), "neither a run nor a model"),
        (
            ("mixed.jsonl", "--against", "RUN@0000"),
            "No weights of the student that are kept in .* have a digest that starts with .0000",
        ),
        (("mixed.jsonl", "--out", "kept.txt"), "ends in .jsonl"),
        (("mixed.jsonl", "--rest", "rest.txt"), "--rest rest.txt cannot be written"),
        (("mixed.jsonl", "--rest", "kept.jsonl"), "is the file of --out as well"),
        (("mixed.jsonl", "--out", "nowhere/kept.jsonl"), "in a folder that is there"),
        (("jsonl:mixed.jsonl?limit=4", "--out", "mixed.jsonl"), "is the question set itself"),
        (("mixed.jsonl", "--set", "model=nobody"), "nobody"),
        (("mixed.jsonl", "--set", "play.nothing=1"), "no setting"),
        (("mixed.jsonl", "--config", "nothing.toml"), "no config file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(mixed, run, monkeypatch, arguments, problem):
    monkeypatch.chdir(mixed.parent)
    words = [word.replace("RUN", str(run)) for word in ("--out", "kept.jsonl", *arguments)]
    with pytest.raises(BadInput, match=problem):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not Path("runs").exists()
