"""`python -m events.trace`: ids, attempts, JSON, errors, hostile text, and logs that grow while they are looked at."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from events.cli.app import run_app
from events.facts.rollouts import pack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, EpisodeStarted, GapMeasured
from events.facts.values import Generation, IOPair, Question, Sampling, Verdict, canonical
from events.stores import open_log
from events.trace import app
from tests.support.example_runs import PROVENANCE, START_WEIGHTS, ExampleRun, example_run, question
from tests.support.processes import start_command

GOALPOST = question(1000).id
HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/]\x9b31m\u202eevil\u2066\r!"

Trace = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(recipe="gasp").goalpost(2).evaluate().start(3)
        tale.episode(rejected=["degenerate"]).practice().finish().update().start(1).episode(lift=None).finish().end()
    return folder


@pytest.fixture
def trace(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trace:
    def called(*words: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["trace", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_app(app)
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return err if code else out

    return called


def variant(trace: Trace, run: Path, kind: str = "lemma") -> str:
    """The id of the first accepted one."""
    seat = {"lemma": "easy", "lift": "hard"}[kind]
    history = json.loads(trace(run, GOALPOST, "--json"))
    return next(
        proposal["question"]
        for proposal in history["episodes"][0]["proposals"]
        if proposal["accepted"] and proposal["seat"] == seat
    )


def test_the_overview_ends_with_commands_that_work(trace: Trace, run: Path) -> None:
    lines = trace(run).splitlines()
    assert lines[0].startswith(f"{run.name}: gasp, finished, 2 iterations")
    typed = [line[line.index(" -m ") :] for line in lines if " -m events.trace " in line]
    assert len(typed) >= 2
    for line in typed:
        assert trace(*shlex.split(line)[2:])


@pytest.mark.parametrize("of", ["goalpost", "lemma", "attempt", "proposal"])
def test_whatever_is_shown_ends_with_commands_that_work(trace: Trace, run: Path, of: str) -> None:
    words = {
        "goalpost": [GOALPOST],
        "lemma": [variant(trace, run)],
        "attempt": [GOALPOST[:5], "--attempt", 3],
        "proposal": ["--answers", "episode/00001/000:5", "--attempt", 0],
    }[of]
    typed = [line[line.index(" -m ") :] for line in trace(run, *words).splitlines() if " -m events.trace " in line]
    assert len(typed) >= 2
    for line in typed:
        assert trace(*shlex.split(line)[2:])


def test_a_pipe_gets_equal_text_without_colours_and_without_spaces_at_the_ends_of_lines(trace: Trace, run: Path) -> None:
    for words in ([], [GOALPOST], [variant(trace, run)], [GOALPOST, "--attempt", "0"]):
        text = trace(run, *words)
        assert text == trace(run, *words)
        assert "\x1b" not in text
        lines = text.splitlines()
        assert all(line == line.rstrip() for line in lines)
        assert all(len(line) <= 160 for line in lines if " -m events" not in line)


def test_json_of_each_has_these_fields(trace: Trace, run: Path) -> None:
    overview = json.loads(trace(run, "--json"))
    assert {"position", "finished", "lemmas", "iterations", "updates", "evaluations", "goalposts", "warnings"} <= set(overview)
    output = json.loads(trace(run, GOALPOST, "--json"))
    assert set(output) == {"why", "question", "blob", "source", "episodes_in_all", "episodes", "measures", "best_answer"}
    assert set(output["episodes"][0]) == {
        *("stream", "iteration", "axis", "position", "gap", "best_share", "gap_after"),
        *("answers", "proposals", "ending", "failure", "learned"),
    }
    data = json.loads(trace(run, variant(trace, run), "--json"))
    assert set(data) == {"question", "text", "appearances", "answers", "parent"}
    attempt = json.loads(trace(run, GOALPOST, "--attempt", 0, "--json"))
    assert set(attempt) == {
        *("name", "stream", "version", "index", "count", "positions", "iteration", "purpose", "role", "task", "asked"),
        *("question", "pair", "prompt", "completion", "program", "answer", "malformed", "proposal", "verdict", "provenance"),
        *(
            "used",
            "vote",
            "label",
            "phase",
            "reward",
            "advantage",
            "advantage_estimator",
            "sampled",
            "estimator_assumed",
            "sure",
            "policy",
            "sampling",
            "seed",
            "ids",
            "logprobs",
            "pieces",
            "learned_by",
        ),
    }
    assert set(attempt["positions"]) == {"made", "verified", "rewarded"}


def test_which_answers_a_number_counts_among_is_said_and_can_be_chosen(trace: Trace, run: Path) -> None:
    latest = trace(run, GOALPOST, "--attempt", 9).splitlines()[0]
    assert latest == "attempt 9 of episode/00002/000:2, which has 0 to 9 (the latest answers to it; --answers names others)"
    chosen = trace(run, GOALPOST, "--answers", "episode/00001/000:2", "--attempt", 9).splitlines()[0]
    assert chosen == "attempt 9 of episode/00001/000:2, which has 0 to 9"
    assert (
        json.loads(trace(run, "--answers", "episode/00001/000:2", "--attempt", 9, "--json"))["name"] == "episode/00001/000:2/9"
    )


def test_the_first_answer_that_passed_is_a_command_away(trace: Trace, tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        example_run(log).run().goalpost().start(2).episode().episode(gap_successes=2).finish()
    line = next(line for line in trace(tmp_path, GOALPOST).splitlines() if line.startswith("the first answer that passed"))
    shown = trace(*shlex.split(line[line.index(" -m ") :])[2:])
    assert shown.startswith("attempt 0 of episode/00001/001:2,")
    assert "Verdict: passed" in shown


def test_where_no_answer_passed_the_one_that_passed_most_tests_is_a_command_away(trace: Trace, tmp_path: Path) -> None:
    shares = (1, 2, 0, 2)
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        tale = example_run(log).run().goalpost().start(2).episode()
        goalpost = tale.goalposts[0]
        tale.open(goalpost, "guided")
        fact = AttemptsMade(
            purpose="gap", question=goalpost.id, task="induction", pair=None, generation=tale.generation("Solve", 4)
        )
        made = log.append(tale.stream, [fact])[0]
        verdicts = tuple(Verdict(outcome="wrong_answer", passed=count, total=3) for count in shares)
        log.append(tale.stream, [AttemptsVerified(of=made.version, verdicts=verdicts, provenance=PROVENANCE)])
        log.append(tale.stream, [GapMeasured(question=goalpost.id, successes=0, attempts=4, best_share=2 / 3, gap=1)])
    line = next(line for line in trace(tmp_path, GOALPOST).splitlines() if line.startswith("the best answer"))
    shown = trace(*shlex.split(line[line.index(" -m ") :])[2:])
    assert shown.startswith("attempt 1 of episode/00001/001:2,")
    assert "2 of 3 tests passed" in shown


def test_an_attempt_shows_what_it_was_worth_and_who_learned_from_it(trace: Trace, run: Path) -> None:
    lemma = variant(trace, run)
    text = trace(run, lemma, "--attempt", 0)
    assert "Verdict: passed, 5 of 5 tests passed" in text
    estimator = r"trr_plus_plus_and_grpo \(assumed, the log names none\)"
    assert re.search(rf"Reward 1, advantage \+\d\.\d{{3}} by {estimator}, solve phase; learned by [0-9a-f]{{8}}\.", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zzz"], "No question of this run has an id that starts with 'zzz'; leave it out to see goalposts"),
        ([GOALPOST, "--attempt", "10"], "There is no attempt 10 at episode/00002/000:2; they are counted from 0 to 9"),
        ([GOALPOST, "--answers", "run", "--attempt", "0"], "'run' names no answers; write STREAM:VERSION"),
        (["--answers", "run:1", "--attempt", "0"], "Nothing was generated at version 1 of 'run'"),
        ([GOALPOST, "--answers", "episode/00001/001:2", "--attempt", "0"], "not d0ee3fc5f2237b07; leave the question or"),
        (["--answers", "run:1"], "give --attempt N as well"),
        (["--attempt", "1"], "--attempt needs a question"),
        ([GOALPOST, "--attempt", "1", "--follow"], "An attempt does not change any more"),
    ],
)
def test_what_is_not_found_is_one_sentence(trace: Trace, run: Path, words: list[str], message: str) -> None:
    output = trace(run, *words, code=2)
    assert message in output
    assert len(output.splitlines()) == 1


def tell_hostile(log, hostile: Question) -> ExampleRun:  # type: ignore[no-untyped-def]
    tale = example_run(log).run().goalpost().start()
    tale.stream = "episode/00001/000"
    started = EpisodeStarted(
        iteration=1, purpose="practice", question=hostile.id, blob=log.put(canonical(hostile)), axis="io", seed=0
    )
    generation = Generation(
        policy=START_WEIGHTS,
        template="t",
        prompt=log.put(HOSTILE.encode()),
        texts=log.put(json.dumps([f"Look {HOSTILE}\n```python\ndef f(x):\n    return '{HOSTILE}'\n```\n"]).encode()),
        tokens=log.put(pack_rollouts([1], [[2, 3]], [[-0.5, -9.0]])),
        count=1,
        length=2,
        seed=0,
        sampling=Sampling(),
    )
    wrong = Verdict(outcome="wrong_answer", passed=0, total=1, detail=HOSTILE)
    made = AttemptsMade(purpose="practice", question=hostile.id, task="induction", generation=generation)
    log.append(tale.stream, [started, made, AttemptsVerified(of=2, verdicts=(wrong,), provenance=PROVENANCE)])
    return tale


@pytest.mark.parametrize("words", [[], ["--attempt", "0"]])
def test_hostile_prompts_completions_and_programs_reach_the_terminal_as_harmless_text(
    trace: Trace, tmp_path: Path, words: list[str]
) -> None:
    program = f"def f(x):\n    return '{HOSTILE}' + x"
    hostile = Question(statement=HOSTILE, program=program, private=(IOPair(input=HOSTILE, output=HOSTILE),))
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        tell_hostile(log, hostile)
    text = trace(tmp_path, hostile.id, *words)
    assert text.count("[red]x[/red][/]") >= 4
    assert not {character for character in text if ord(character) < 32 or 127 <= ord(character) < 160} - {"\n"}
    assert not {"\u202e", "\u2066"} & set(text)
    assert "evil" in trace(tmp_path, hostile.id, *words, "--json")


def started(run: Path, *words: str) -> subprocess.Popen[str]:
    return start_command("events.trace", run, *words, fresh=False)


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came: {lines} {process.stderr.read() if process.stderr else ''}")


def test_a_run_is_followed_line_by_line_until_it_ends(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        tale = example_run(log).run().goalpost().play(guided=1, practice=0)
        following = started(tmp_path, "--follow")
        assert any("not finished, 1 iteration " in line for line in until(following, "events.web"))
        tale.update().play(guided=1, practice=0)
        lines = until(following, "iteration 2: gap 1.00, reward")
        assert any("shared learned from iteration 1" in line for line in lines)
        tale.evaluate().end()
        out, err = following.communicate(timeout=30)
    assert out.splitlines()[-1] == "the run is finished, after 2 iterations"
    assert "evaluation test after iteration 1: pass @1 0.100" in out
    assert (following.returncode, err) == (0, "")


def test_new_episodes_of_a_goalpost_are_told_when_they_end_and_no_others(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        tale = example_run(log).run().goalpost(2).play(guided=2, practice=0)
        following = started(tmp_path, GOALPOST, "--follow", "--json")
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["episodes_in_all"] == 1
        tale.play(guided=2, practice=1).end()
        out, err = following.communicate(timeout=30)
    (line,) = out.splitlines()
    assert json.loads(line)["episode"]["stream"] == "episode/00002/000"
    assert (following.returncode, err) == (0, "")


def test_new_answers_to_a_question_are_told_when_they_are_verified_and_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        tale = example_run(log).run().goalpost().evaluate()
        following = started(tmp_path, question(1).id, "--follow")
        until(following, " --attempt 0")
        tale.start().episode().finish().evaluate("again", successes=5)
        until(following, "evaluation/again/00000:1 evaluation as induction: 15 wrong answer, 5 passed")
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=30)[1] == ""
    assert following.returncode == 130
