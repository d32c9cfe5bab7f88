from __future__ import annotations

import json

import pytest

from events.errors import BadInput
from events.values import Pair, Question, canonical
from roles.question_set import load


def test_our_own_records_come_back_as_they_were(tmp_path):
    questions = [Question(statement=f"s{n}", private=(Pair(input="1", output="2"),)) for n in range(3)]
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\n".join(canonical(question) for question in questions) + b"\n\n")
    assert load(str(file), "test").questions == tuple(questions)
    assert load(str(file), "test").name == "mine"


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
        ('{"question_content": "q", "metadata": "[]", "public_test_cases": "[]"}', "livecodebench:FILE"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    file = tmp_path / "bad.jsonl"
    good = canonical(Question(statement="s", private=(Pair(input="1", output="2"),))).decode()
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(BadInput, match=f"line 2.*{words}"):
        load(str(file), "test")


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    question = Question(statement="a\u2028b\u0085c", private=(Pair(input="1", output="2"),))
    (tmp_path / "q.jsonl").write_text(json.dumps(question.model_dump(mode="json"), ensure_ascii=False) + "\n", encoding="utf-8")
    assert load(str(tmp_path / "q.jsonl"), "test").questions == (question,)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_questions_is_refused(tmp_path, content):
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=r"empty\.jsonl"):
        load(str(tmp_path / "empty.jsonl"), "test")


def test_an_unknown_set_is_refused():
    with pytest.raises(BadInput, match="no question set 'nowhere'"):
        load("nowhere", "test")


@pytest.mark.parametrize("split", ["train", "test", "goalposts"])
def test_the_pocket_sets_load(split):
    questions = load("pocket", split).questions
    assert len({question.id for question in questions}) == len(questions) >= 100
