from __future__ import annotations

import json
import re
from contextlib import closing

import pytest
from typer.testing import CliRunner

from events.facts.errors import BadInput
from events.facts.streams import RUN, episode_stream
from events.facts.trial_facts import StudentPromoted
from events.facts.types import EpisodeStarted, QuestionAccepted
from events.facts.values import Digest, IOPair, Question, canonical
from events.stores import open_log
from roles.__main__ import app
from roles.questions.hub import LIVECODEBENCH, TABLES
from roles.questions.load import load_questions
from roles.questions.named_sets import KEYS, SOURCES
from tests.support.paths import ROOT

DOC = (ROOT / "docs" / "questions.md").read_text()


def run(*arguments):
    return CliRunner().invoke(app, ["questions", *map(str, arguments)], catch_exceptions=False)


def question(statement, **changes):
    return canonical(Question(statement=statement, private=(IOPair(input="'secret'", output="2"),), **changes)).decode()


@pytest.fixture
def file(tmp_path):
    public = (IOPair(input="1", output="2"),)
    (tmp_path / "q.jsonl").write_text(
        "\n".join([question("first"), question("second \x1b[31m", mode="stdin", public=public, program="def f(x): return x")])
    )
    return tmp_path / "q.jsonl"


def test_every_bad_record_is_named_by_line_and_field(file):
    file.write_text(f'{question("good")}\n[1]\n{{"statement": "s"}}\n{{"statement": 3}}\n{question("good")}\n')
    ended = run("validate", file)
    assert ended.exit_code == 1
    assert [line.removeprefix(f"{file}, ").split(":")[0] for line in ended.stdout.splitlines()] == [
        "line 2", "line 3, field private", "line 4, field statement", "line 5",
    ]  # fmt: skip
    assert "1 good, 4 bad, 0 left out" in ended.stderr


def test_validation_stops_after_as_many_as_it_is_told(file):
    file.write_text("[1]\n" * 9)
    ended = run("validate", file, "--most", 2)
    assert (ended.exit_code, len(ended.stdout.splitlines())) == (1, 2)
    assert "stopped after 2" in ended.stderr


def test_a_good_file_validates(file):
    ended = run("validate", file)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert "2 good, 0 bad" in ended.stderr


def test_an_empty_file_does_not_validate(file):
    file.write_text("")
    assert run("validate", file).exit_code == 1


def test_a_question_is_shown_without_what_only_the_verifier_sees(file):
    shown = run("show", file, "--number", 2).stdout
    assert "--- statement\nsecond" in shown
    assert "--- program\ndef f(x)" in shown
    assert "--- output 1\n2" in shown
    assert "private: 1\n" in shown
    assert "secret" not in shown
    assert "\x1b" not in shown
    assert "secret" not in run("show", file, "--json").stdout
    assert json.loads(run("show", file, "--json").stdout)["statement"] == "first"


def test_a_number_beyond_the_set_is_refused(file):
    with pytest.raises(BadInput, match="fewer than 3 questions"):
        run("show", file, "--number", 3)


def test_a_set_is_counted_by_kind(file):
    counts = json.loads(run("list", file, "--json").stdout)
    assert (counts["questions"], counts["mode"], counts["bad"]) == (2, {"function": 1, "stdin": 1}, 0)
    assert "mode: function 1, stdin 1\n" in run("list", file).stdout


def test_every_name_is_listed_with_what_can_be_set():
    rows = {row["name"]: row for row in map(json.loads, run("list", "--json").stdout.splitlines())}
    assert rows.keys() == SOURCES.keys()
    assert rows["livecodebench"]["settings"]["paper"] == ["train", "test"]
    assert rows["livecodebench"]["settings"]["after"] == "date"


def test_the_pocket_set_is_shown_and_counted():
    assert json.loads(run("list", "pocket", "--json").stdout)["questions"] >= 100
    assert "--- statement" in run("show", "pocket", "--split", "train").stdout


def test_the_documents_name_every_set_and_every_setting():
    rows = {
        line.split("`")[1]: set(line.rsplit(" | ", 1)[1].replace("`", "").strip(" |").split())
        for line in DOC.splitlines()
        if line.startswith("| `") and line.count(" | ") == 3
    }
    assert rows == {name: set(keys) for name, keys in KEYS.items()}
    assert all(f"`{name}`" in DOC for name in [*(repository for repository, _ in TABLES.values()), LIVECODEBENCH])


def test_the_examples_of_the_documents_are_questions(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "mine.jsonl").write_text(example)
    assert "3 good, 0 bad" in run("validate", tmp_path / "mine.jsonl").stderr


@pytest.fixture
def tried(tmp_path):
    """A log of four questions, in two sets each of two iterations: accepted ones and, last, a real one."""
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        for number, (iteration, which) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)], 1):
            asked = Question(statement=f"question {number}", private=(IOPair(input="1", output="2"),))
            same = {"question": asked.id, "blob": log.put(canonical(asked)), "axis": "function"}
            purpose = "practice" if number == 4 else "unguided"
            facts = [EpisodeStarted(iteration=iteration, purpose=purpose, seed=0, set=which, **same)]
            if number < 4:
                facts.append(QuestionAccepted(seat="open", **same))
            log.append(episode_stream(iteration, number), facts)
    return tmp_path


def promote(folder, *sets):
    with closing(open_log(folder / "log.sqlite")) as log:
        for iteration, which in sets:
            policy = Digest("0" * 64)
            log.append(RUN, [StudentPromoted(iteration=iteration, set=which, student=1, policy=policy, gain=0.5, window=1)])


def test_questions_of_the_sets_on_which_a_student_was_promoted_become_a_question_set(tried):
    promote(tried, (1, 2), (2, 2))
    assert run("promoted", tried, "--out", tried / "best.jsonl").exit_code == 0
    kept = load_questions(str(tried / "best.jsonl"), "train").questions
    assert [each.statement for each in kept] == ["question 2", "question 4"]


def test_where_nobody_was_promoted_there_is_no_question_set(tried):
    with pytest.raises(BadInput, match="has promoted no student"):
        run("promoted", tried, "--out", tried / "best.jsonl")
    assert not (tried / "best.jsonl").exists()
