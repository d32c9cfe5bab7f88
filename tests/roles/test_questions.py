from __future__ import annotations

import gzip
import json

import pytest

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question, canonical
from roles.questions.load import load_questions


def test_our_own_records_come_back_as_they_were(tmp_path):
    questions = [Question(statement=f"s{n}", private=(IOPair(input="1", output="2"),)) for n in range(3)]
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\n".join(canonical(question) for question in questions) + b"\n\n")
    assert load_questions(str(file), "test").questions == tuple(questions)
    assert load_questions(str(file), "test").name == "mine"


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
        ('{"statement": " ", "private": [{"input": "1", "output": "1"}]}', "field statement: blank"),
        ('{"statement": 3, "private": [{"input": "1", "output": "1"}]}', "field statement"),
        ('{"statement": "s", "entry": "f()", "private": [{"input": "1", "output": "1"}]}', "field entry: expected the name"),
        (
            '{"statement": "s", "entry": "class", "private": [{"input": "1", "output": "1"}]}',
            "field entry: class is a word of Python",
        ),
        (
            '{"statement": "s", "entry": "Solution.None", "private": [{"input": "1", "output": "1"}]}',
            "field entry: None is a word",
        ),
        ('{"statement": "s", "context": "def", "private": [{"input": "1", "output": "1"}]}', "field context: no Python"),
        ('{"statement": "s", "rules": "loud", "private": [{"input": "1", "output": "1"}]}', "field rules: expected one of own"),
        ('{"statement": "s", "statement": "t", "private": [{"input": "1", "output": "1"}]}', '"statement" stands twice'),
        ('{"statement": "s", "private": [{"input": "1", "input": "2", "output": "1"}]}', 'the key "input" stands twice'),
        ('{"statement": "s", "mode": "loud", "private": [{"input": "1", "output": "1"}]}', "field mode"),
        ('{"statement": "s", "program": "# none", "private": [{"input": "1", "output": "1"}]}', "field program: no Python"),
        ('{"statement": "s", "program": "def", "private": [{"input": "1", "output": "1"}]}', "field program: no Python"),
        ('{"statement": "s", "private": [{"input": "1", "output": "1"}, {"input": "1"}]}', r"field private\.1\.output"),
        (
            '{"statement": "s", "private": [{"input": "open(1)", "output": "1"}]}',
            r"field private\.0\.input: expected Python lit",
        ),
        ('{"statement": "s", "private": [{"input": "1", "output": "1, 2 3"}]}', r"field private\.0\.output: expected one"),
        ('{"statement": "s", "private": [{"input": "%s", "output": "1"}]}' % ("[" * 9999), r"field private\.0\.input"),
        (
            '{"statement": "s", "mode": "checks", "private": [{"input": "assert", "output": ""}]}',
            r"private\.0\.input: no Python",
        ),
        (
            '{"statement": "s", "mode": "checks", "private": [{"input": "1", "output": "1"}]}',
            r"private\.0\.output: a check has",
        ),
        ('{"statement": "s0", "private": [{"input": "1", "output": "2"}]}', "the same question as .*line 1"),
        ('{"statement": %s}' % ("9" * 9999), "not valid JSON"),
        ("\0", "zero byte"),
        ('{"question_content": "q", "metadata": "[]", "public_test_cases": "[]"}', "livecodebench:FILE"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    file = tmp_path / "bad.jsonl"
    good = canonical(Question(statement="s0", private=(IOPair(input="1", output="2"),))).decode()
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(BadInput, match=f"line 2.*{words}"):
        load_questions(str(file), "test")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x00\x00", "line 1: a zero byte"),
        (b'{"statement": "\xff"}', r"line 1: not UTF-8 \(invalid start byte at byte 15\)"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (gzip.compress(b'{"statement": "s"}' * 99)[:-20], "cannot be read"),
        (gzip.compress(b" " * (1 << 20)) * 257, "longer than 256 MiB"),
        (b"[1, 2]", "record 1: a record is a JSON object, this is a number"),
        (b"[{}", "line 1: not valid JSON"),
        (b"[" * 9999, "line 1: not valid JSON"),
        (b"[]", "holds no question"),
    ],
    ids=["binary", "latin", "no gzip", "cut short", "bomb", "numbers", "unclosed", "deep", "nothing"],
)
def test_a_file_that_is_no_question_file_is_one_sentence(tmp_path, content, words):
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(BadInput, match=words) as error:
        load_questions(f"jsonl:{tmp_path}/odd", "test")
    assert str(tmp_path / "odd") in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_lines_and_lists_plain_and_gzipped_are_read_alike(tmp_path, packed, listed):
    questions = [Question(statement=f"s{n}", private=(IOPair(input="1", output="2"),)) for n in range(3)]
    records = [json.loads(canonical(question)) for question in questions]
    content = json.dumps(records) if listed else "\n".join(map(json.dumps, records))
    (tmp_path / "q").write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert load_questions(str(tmp_path / "q"), "test").questions == tuple(questions)
    assert load_questions(f"jsonl:{tmp_path}/q?limit=2", "test").questions == tuple(questions[:2])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("humanevil", "There is no question set 'humanevil': .*pocket, pocket2, pocket3, livecodebench, humaneval"),
        ("{folder}", "is a folder"),
        ("humaneval:{folder}", "is a folder"),
        ("humaneval:{folder}/none", "cannot be read"),
        ("humaneval:", "names no file"),
        ("azr", "azr:FILE"),
        ("jsonl", "jsonl:FILE"),
        ("livecodebench?realease=v1", "no setting 'realease'; there are paper, release, after"),
        ("livecodebench?release=v7", "choose one of v1, v2, v3, v4, v5, v6"),
        ("livecodebench?after=2024-13-01", "'2024-13-01' is no date; write it like 2024-08-01"),
        ("livecodebench?after=20240801", "is no date"),
        ("livecodebench?paper=train&before=2024-01-01", "paper=train says before itself"),
        ("livecodebench?platform", "'platform' is no setting"),
        ("livecodebench?platform=atcoder&platform=leetcode", "each key once"),
        ("humaneval?limit=0", "no number from 1 on"),
        ("humaneval?limit=\u0663", "no number from 1 on"),
        ("mbpp?split=dev", "choose one of test, train, validation, prompt, all"),
        ("humaneval?errata=keep", "humaneval has no setting 'errata'"),
        ("pocket?limit=3", "no question set"),
    ],
)
def test_a_setting_that_is_not_understood_is_told_what_would_be(tmp_path, setting, words):
    with pytest.raises(BadInput, match=words):
        load_questions(setting.format(folder=tmp_path), "test")


def test_a_list_with_a_repeated_key_is_one_complaint(tmp_path):
    file = tmp_path / "bad.json"
    file.write_text('[\n{"statement": "s", "private": [\n{"input": "1", "output": "1", "output": "2"}\n]}\n]')
    with pytest.raises(BadInput, match=r'bad\.json: the key "output" stands twice in an object; remove one of them\.'):
        load_questions(str(file), "test")


@pytest.mark.parametrize("form", ["{}\n", "[{}]"])
def test_a_byte_order_mark_before_the_first_record_is_no_part_of_it(tmp_path, form):
    question = Question(statement="s", private=(IOPair(input="1", output="2"),))
    file = tmp_path / "marked.jsonl"
    file.write_text("\ufeff" + form.format(canonical(question).decode()), encoding="utf-8")
    assert load_questions(str(file), "test").questions == (question,)


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    question = Question(statement="a\u2028b\u0085c", private=(IOPair(input="1", output="2"),))
    (tmp_path / "q.jsonl").write_text(json.dumps(question.model_dump(mode="json"), ensure_ascii=False) + "\n", encoding="utf-8")
    assert load_questions(str(tmp_path / "q.jsonl"), "test").questions == (question,)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_questions_is_refused(tmp_path, content):
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=r"empty\.jsonl"):
        load_questions(str(tmp_path / "empty.jsonl"), "test")


def test_an_unknown_set_is_refused():
    with pytest.raises(BadInput, match="no question set 'nowhere'"):
        load_questions("nowhere", "test")


@pytest.mark.parametrize("split", ["train", "test", "goalposts"])
def test_the_pocket_sets_load(split):
    questions = load_questions("pocket", split).questions
    assert len({question.id for question in questions}) == len(questions) >= 100
