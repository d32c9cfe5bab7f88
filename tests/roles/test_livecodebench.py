from __future__ import annotations

import base64
import json
import os
import pickle
import zlib

import pytest

from events.facts.errors import BadInput
from events.facts.values import IOPair
from roles.questions.fields import FieldError, Record
from roles.questions.livecodebench import LARGEST, question_of, text_in_pickle
from roles.questions.load import load_questions
from roles.questions.named_sets import parse_spec
from roles.questions.records import LeftOutRecord, QuestionRecord, read_question_records
from tests.support.benchmark_data import record_file

STDIN = {"input": "1\n", "output": "2\n", "testtype": "stdin"}
FUNCTIONAL = {"input": '[1, 2]\n"a"', "output": "true", "testtype": "functional"}


def record(**changes):
    values = {
        "question_id": "abc1_a", "question_content": "Add one.", "platform": "atcoder", "difficulty": "easy",
        "contest_date": "2024-01-01T00:00:00", "starter_code": "", "metadata": "{}",
        "public_test_cases": json.dumps([STDIN]), "private_test_cases": packed(json.dumps([STDIN, STDIN])),
    }  # fmt: skip
    return {key: value for key, value in (values | changes).items() if value is not ...}


def packed(content):
    return base64.b64encode(zlib.compress(pickle.dumps(content))).decode()


@pytest.fixture
def written(tmp_path):

    def write(*records, options=""):
        (tmp_path / "lcb.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return f"livecodebench:{tmp_path}/lcb.jsonl{options}"

    return write


def test_a_stdin_record_becomes_a_question():
    question = question_of(Record(record()))
    assert (question.mode, len(question.public), len(question.private)) == ("stdin", 1, 2)


def test_a_functional_record_gets_its_arguments_as_literals():
    tests = json.dumps([FUNCTIONAL])
    metadata = json.dumps({"func_name": "go"})
    question = question_of(Record(record(metadata=metadata, public_test_cases=tests, private_test_cases=tests)))
    assert (question.mode, question.entry) == ("function", "Solution.go")
    assert question.private == (IOPair(input="[1, 2], 'a'", output="True"),)


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def test_a_malicious_pickle_is_refused_and_never_executed(written, tmp_path):
    mark = tmp_path / "executed"
    with pytest.raises(BadInput, match=r"line 1, field private_test_cases: the pickle holds more than one text.*refused"):
        load_questions(written(record(private_test_cases=packed(Evil(mark)))), "test")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "the pickle was not malicious"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(["a", "b"]), "refused"),
        (pickle.dumps(7), "refused"),
        (pickle.dumps("[]")[:-1], "no whole pickle"),
        (b"\x8d" + b"\xff" * 8, "no whole pickle"),
        (b"\x94" * 1_000_000 + b".", "0 texts"),
        (b"", "no whole pickle"),
    ],
)
def test_a_pickle_that_is_not_one_text_is_refused(content, words):
    with pytest.raises(FieldError, match=words):
        text_in_pickle(content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question_content": None}, "question_content: expected text, found null"),
        ({"question_content": ...}, "question_content: missing"),
        ({"question_id": 7}, "question_id: expected text, found a number"),
        ({"platform": ...}, "platform: missing"),
        ({"contest_date": "soon"}, "contest_date: expected a date"),
        ({"contest_date": 20240101}, "contest_date: expected text"),
        ({"metadata": "{"}, "metadata: holds no valid JSON"),
        ({"metadata": "[" * 100_000}, "metadata: its JSON is nested too deeply"),
        ({"metadata": "[]"}, "metadata: expected the JSON of an object"),
        ({"metadata": '{"func_name": 3}'}, "metadata: expected the JSON of an object"),
        ({"public_test_cases": []}, "public_test_cases: expected text, found a list"),
        ({"public_test_cases": '[{"input": 1}]'}, "public_test_cases: a test needs"),
        ({"public_test_cases": json.dumps([FUNCTIONAL])}, "public_test_cases: expected tests of type stdin"),
        ({"public_test_cases": "{}"}, "public_test_cases: expected a list of tests, found an object"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "private_test_cases: the record has no test at all"),
        ({"private_test_cases": None}, "private_test_cases: none.*tests=public"),
        ({"private_test_cases": 7}, "private_test_cases: expected text, found a number"),
        ({"private_test_cases": "not base64!"}, "private_test_cases: does not decode"),
        ({"private_test_cases": "ö"}, "private_test_cases: does not decode"),
        ({"private_test_cases": base64.b64encode(b"not zlib").decode()}, "private_test_cases: does not decode"),
        ({"private_test_cases": base64.b64encode(zlib.compress(b"x" * 99)[:-9]).decode()}, "private_test_cases: .*cut short"),
        ({"private_test_cases": packed("[" * 100_000)}, "private_test_cases: its JSON is nested too deeply"),
        (
            {"private_test_cases": packed('[{"input": "\\ud800", "output": "", "testtype": "stdin"}]')},
            "private: half of a surrog",
        ),
    ],
)
def test_a_broken_record_is_one_error_that_names_line_and_field(written, changes, words):
    with pytest.raises(BadInput, match=f"lcb.jsonl, line 2, field {words}") as error:
        load_questions(written(record(), record(**{"question_id": "other", "question_content": "Another."} | changes)), "test")
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_before_it_is_unpacked(written):
    squeeze = zlib.compressobj(1)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range((LARGEST >> 20) + 1)) + squeeze.flush()
    with pytest.raises(BadInput, match="line 1, field private_test_cases: decodes to more than 256 MiB"):
        load_questions(written(record(private_test_cases=base64.b64encode(bomb).decode())), "test")


def test_a_functional_test_that_is_too_deep_to_be_a_literal_is_refused(written):
    deep = {"input": "[" * 150 + "]" * 150, "output": "1", "testtype": "functional"}
    changes = {"metadata": '{"func_name": "go"}', "public_test_cases": json.dumps([deep])}
    with pytest.raises(BadInput, match="field public_test_cases: a test has no Python literal"):
        load_questions(written(record(**changes)), "test")


def test_a_name_or_a_question_may_stand_once(written):
    with pytest.raises(BadInput, match=r"line 2: a second record called abc1_a, after .*line 1"):
        load_questions(written(record(), record(question_content="Another.")), "test")
    with pytest.raises(BadInput, match=r"line 2: the same question as .*line 1"):
        load_questions(written(record(), record(question_id="abc2_a")), "test")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", "abcd"), ("?after=2024-08-01", "bc"), ("?before=2024-08-01", "a"),
        ("?after=2024-08-01&before=2024-10-01", "b"), ("?paper=train", "a"), ("?paper=test", "c"),
        ("?platform=leetcode", "d"), ("?difficulty=hard", "b"), ("?mode=stdin&limit=2", "ab"),
    ],
)  # fmt: skip
def test_windows_take_their_first_day_and_leave_their_last(written, options, names):
    records = [
        record(question_id="a", question_content="a", contest_date="2024-07-31T23:59:59"),
        record(question_id="b", question_content="b", contest_date="2024-08-01T00:00:00", difficulty="hard"),
        record(question_id="c", question_content="c", contest_date="2025-01-31T00:00:00"),
        record(question_id="d", question_content="d", contest_date=None, platform="leetcode"),
    ]
    read = list(read_question_records(parse_spec(written(*records, options=options), "test")))
    assert "".join(row.label.name for row in read if isinstance(row, QuestionRecord)) == names
    undated = [row.label.name for row in read if isinstance(row, LeftOutRecord)]
    assert undated == (["d"] if {"after", "before", "paper"} & set(options.replace("?", " ").replace("=", " ").split()) else [])


def test_errata_are_left_out_unless_they_are_asked_for(written):
    records = [record(), record(question_id="abc350_c", question_content="Broken.")]
    assert len(load_questions(written(*records), "test").questions) == 1
    assert len(load_questions(written(*records, options="?errata=keep"), "test").questions) == 2
    assert len(load_questions(written(*records, options="?paper=train"), "test").questions) == 2
    assert len(load_questions(written(*records, options="?paper=train&errata=drop"), "test").questions) == 1


def test_public_tests_judge_alone_only_where_that_is_asked_for(written):
    (question,) = load_questions(written(record(private_test_cases=None), options="?tests=public"), "test").questions
    assert (question.public, len(question.private)) == ((), 1)


def test_a_release_is_the_first_files_of_a_folder(tmp_path, written):
    for number, name in enumerate(("test.jsonl", "test2.jsonl", "test3.jsonl")):
        (tmp_path / name).write_text(json.dumps(record(question_id=name, question_content=str(number))) + "\n")
    assert len(load_questions(f"livecodebench:{tmp_path}?release=v2", "test").questions) == 2
    with pytest.raises(BadInput, match=r"test4\.jsonl"):
        load_questions(f"livecodebench:{tmp_path}?release=v4", "test")
    with pytest.raises(BadInput, match="one file, which knows no release"):
        load_questions(written(record(), options="?release=v2"), "test")


def test_real_records_load():
    questions = load_questions(f"livecodebench:{record_file('lcb/full_records.jsonl')}?errata=keep", "test").questions
    assert len(questions) == 56
    assert {question.mode for question in questions} == {"stdin", "function"}


def test_the_hubs_own_encoding_loads():
    (question,) = load_questions(f"livecodebench:{record_file('lcb/lcb_original_1873_A.jsonl')}", "test").questions
    assert question.mode == "stdin"


@pytest.mark.parametrize(("paper", "size"), [("train", 601), ("test", 166)])
def test_the_papers_splits_are_windows_of_the_published_list(paper, size):
    """The list has no dates for release v6, which holds the rest of the evaluation window."""
    setting = f"livecodebench:{record_file('lcb/lcb_public_1055.jsonl')}?paper={paper}&tests=public&errata=drop"
    records = list(read_question_records(parse_spec(setting, "test")))
    dated = [record for record in records if isinstance(record, QuestionRecord | LeftOutRecord) and record.label.date]
    assert len(dated) == size == len(records) - 175
