from __future__ import annotations

import base64
import json
import os
import pickle
import zlib

import pytest

from events.errors import BadInput
from events.values import Pair, Question, canonical
from roles.question_set import load
from roles.questions.jsonl import jsonl
from roles.questions.livecodebench import question_of, text_in_pickle
from tests.data import record_file

STDIN = {"input": "1\n", "output": "2\n", "testtype": "stdin"}


def record(**changes):
    return {
        "question_content": "Add one.",
        "starter_code": "",
        "metadata": "{}",
        "public_test_cases": json.dumps([STDIN]),
        "private_test_cases": packed([STDIN, STDIN]),
    } | changes


def packed(tests):
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def test_our_own_records_come_back_as_they_were(tmp_path):
    questions = [Question(statement=f"s{n}", private=(Pair(input="1", output="2"),)) for n in range(3)]
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\n".join(canonical(question) for question in questions) + b"\n\n")
    assert jsonl(file).questions == tuple(questions)
    assert jsonl(file).name == "mine"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", "not valid JSON"),
        ("[1]", "JSON object"),
        ('{"statement": "s"}', "field private"),
        ('{"statement": "s", "private": []}', "field private"),
        ('{"statement": "s", "private": [{"input": "1", "output": "1"}], "extra": 1}', "field extra"),
        ("[" * 100_000, "not valid JSON"),
        ('{"statement": "\\ud800", "private": [{"input": "1", "output": "1"}]}', "surrogate"),
        ('{"question_content": "q", "metadata": "[]", "public_test_cases": "[]"}', "mend"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    file = tmp_path / "bad.jsonl"
    good = canonical(Question(statement="s", private=(Pair(input="1", output="2"),))).decode()
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(BadInput, match=f"line 2.*{words}"):
        jsonl(file)


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    question = Question(statement="a\u2028b\u0085c", private=(Pair(input="1", output="2"),))
    (tmp_path / "q.jsonl").write_text(json.dumps(question.model_dump(mode="json"), ensure_ascii=False) + "\n", encoding="utf-8")
    assert jsonl(tmp_path / "q.jsonl").questions == (question,)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_questions_is_refused(tmp_path, content):
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=r"empty\.jsonl"):
        jsonl(tmp_path / "empty.jsonl")


def test_an_unknown_set_is_refused():
    with pytest.raises(BadInput, match="no question set 'nowhere'"):
        load("nowhere", "test")


def test_a_stdin_record_becomes_a_question():
    question = question_of(record())
    assert (question.mode, len(question.public), len(question.private)) == ("stdin", 1, 2)


def test_a_functional_record_gets_its_arguments_as_literals():
    test = {"input": '[1, 2]\n"a"', "output": "true", "testtype": "functional"}
    question = question_of(
        record(metadata='{"func_name": "go"}', public_test_cases=json.dumps([test]), private_test_cases="[]")
    )
    assert (question.mode, question.entry) == ("function", "Solution.go")
    assert question.pairs == (Pair(input="[1, 2], 'a'", output="True"),)


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/gasp-was-here",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Evil()), "refused"),
        (pickle.dumps(["a", "b"]), "refused"),
        (pickle.dumps(7), "refused"),
    ],
)
def test_a_malicious_pickle_is_refused_unread(content, words):
    with pytest.raises(ValueError, match=words):
        text_in_pickle(content)
    assert not os.path.exists("/tmp/gasp-was-here")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question_content": None}, "question_content"),
        ({"metadata": "{"}, ""),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no test at all"),
        ({"private_test_cases": "not base64!"}, "does not decode"),
        ({"private_test_cases": base64.b64encode(b"not zlib").decode()}, "does not decode"),
        ({"public_test_cases": '[{"input": 1}]'}, "public_test_cases"),
    ],
)
def test_a_broken_record_is_one_error(tmp_path, changes, words):
    file = tmp_path / "lcb.jsonl"
    file.write_text(json.dumps(record(**changes)) + "\n")
    with pytest.raises(BadInput, match=f"line 1.*{words}"):
        jsonl(file)


def test_real_livecodebench_records_load():
    questions = jsonl(record_file("lcb/full_records.jsonl")).questions
    assert len(questions) == 56
    assert {question.mode for question in questions} == {"stdin", "function"}
    assert all(question.private for question in questions)


def test_the_hubs_own_encoding_loads():
    (question,) = jsonl(record_file("lcb/lcb_original_1873_A.jsonl")).questions
    assert question.mode == "stdin"


@pytest.mark.parametrize("split", ["train", "test", "goalposts"])
def test_the_pocket_sets_load(split):
    questions = load("pocket", split).questions
    assert len({question.id for question in questions}) == len(questions) >= 100
