"""HumanEval, MBPP, their plus versions, triplets: how records of the real layouts become questions."""

from __future__ import annotations

import json

import pytest

from events.facts.errors import BadInput
from events.facts.values import IOPair
from roles.questions import humaneval, mbpp
from roles.questions.fields import FieldError, Record
from roles.questions.load import load_questions
from roles.questions.named_sets import parse_spec
from roles.questions.records import LeftOutRecord, read_question_records
from tests.support.benchmark_data import record_file

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(1, 2) == 3, 'no'\n    assert candidate([1], [2]) == [1, 2]\n",
}
PLUS = HUMANEVAL | {"base_input": [[1, 2]], "plus_input": [[n, 1] for n in range(60)], "atol": 0}
MBPP = {
    "task_id": 11,
    "text": "Add two numbers.",
    "code": "def helper(a):\r\n    return a\r\ndef add(a, b):\r\n    return a + helper(b)",
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add((1,), (2,)) == (1, 2)"],
    "challenge_test_list": [],
}
MBPPPLUS = {
    "task_id": "Mbpp/12",
    "prompt": '"""\nPair up.\n"""\n',
    "entry_point": "pair_up",
    "canonical_solution": "def pair_up(a, b):\n    return a + b\n",
    "base_input": [[[1], [[2, 3]]]],
    "plus_input": [[[], [[4, 5]]]],
    "atol": 0,
    "assertion": "assert pair_up((1,), [(2, 3)]) == 0",
}
AZR = {"snippet": "def f(a, b):\n    return math.floor(a) * b", "input": "'a', 2", "output": "'aa'", "imports": ["import math"]}
CRUXEVAL = {"id": "sample_0", "code": "def f(a):\n    return a", "input": "1", "output": "1"}


def plus_test(results, loop, reference=""):
    """A test in the layout in which HumanEval+ is published for its parent's harness."""
    return f"""
import numpy as np
{reference}
def assertion(out, exp, atol): ...
def check(candidate):
    inputs = [[1, 2], [3, 4]]
    {results}
    for i, inp in enumerate(inputs):
        {loop}
"""


def judged(question, program):
    """Whether a program of ours passes the checks, one bool a check."""
    verdicts = []
    for pair in question.private:
        space: dict[str, object] = {}
        exec(program, space)
        space["candidate"] = space[question.entry]
        try:
            exec(pair.input, space)
            verdicts.append(True)
        except AssertionError:
            verdicts.append(False)
    return verdicts


def test_literal_assertions_become_pairs_whose_values_stay_outside_the_sandbox():
    question = humaneval.question_of(Record(HUMANEVAL))
    assert (question.mode, question.entry) == ("function", "add")
    assert question.private == (IOPair(input="1, 2", output="3"), IOPair(input="[1], [2]", output="[1, 2]"))
    assert question.program == HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]


@pytest.mark.parametrize("value", ["True", "{1: 2}", "[True]", "{1}"])
def test_values_to_which_equality_is_kinder_than_we_are_become_checks(value):
    question = humaneval.question_of(
        Record(HUMANEVAL | {"test": f"def check(candidate):\n    assert candidate(1) == {value}\n"})
    )
    assert question.mode == "checks"


def test_other_assertions_become_one_check_each_with_their_helpers():
    test = "def near(x): return x < 1\ndef check(candidate):\n    '''Doc.'''\n    assert near(candidate(0, 0))\n    assert candidate(1, 1) == 2\n    assert True"
    question = humaneval.question_of(Record(HUMANEVAL | {"test": test}))
    assert (question.mode, len(question.private)) == ("checks", 2)
    assert judged(question, question.program) == [True, True]
    assert judged(question, "def add(a, b): return 2") == [False, True]


def test_a_check_that_does_more_than_assert_stays_whole():
    test = "def check(candidate):\n    for n in range(3):\n        assert candidate(n, 1) == n + 1\n"
    question = humaneval.question_of(Record(HUMANEVAL | {"test": test}))
    assert (len(question.private), judged(question, question.program)) == (1, [True])
    assert judged(question, "def add(a, b): return 2") == [False]


def test_inputs_without_outputs_are_compared_with_the_reference_in_few_checks():
    question = humaneval.question_of(Record(PLUS))
    assert (question.mode, len(question.private)) == ("checks", 16)
    assert all(judged(question, question.program))
    wrong = judged(question, "def add(a, b): return a + b if a < 59 else 0")
    assert (wrong.count(False), wrong[-1]) == (1, False)


def test_neither_answer_nor_reference_sees_what_the_other_changed():
    record = PLUS | {"base_input": [[[1], 2]], "plus_input": [], "canonical_solution": "    a.append(b)\n    return list(a)\n"}
    question = humaneval.question_of(Record(record))
    assert judged(question, question.program) == [True]
    assert judged(question, "def add(a, b):\n    a.append(b)\n    a.append(b)\n    return a") == [False]


@pytest.mark.parametrize(
    ("returned", "passes"), [("0.1 + 0.2", True), ("0.3001", False), ("'0.3'", False), ("[0.3]", False), ("None", False)]
)
def test_floats_are_compared_with_a_tolerance(returned, passes):
    record = PLUS | {"base_input": [[1, 2]], "plus_input": [], "canonical_solution": "    return 0.3\n"}
    assert judged(humaneval.question_of(Record(record)), f"def add(a, b): return {returned}") == [passes]


def test_the_published_layout_with_exact_values_becomes_pairs():
    test = plus_test("results = [3, 7]", "assertion(candidate(*inp), exp, 0)")
    question = humaneval.question_of(Record(HUMANEVAL | {"test": test}))
    assert question.private == (IOPair(input="1, 2", output="3"), IOPair(input="3, 4", output="7"))


@pytest.mark.parametrize(
    "test",
    [
        plus_test("results = [3.0, 7.0]", "assertion(candidate(*inp), exp, 0)"),
        plus_test("results = [3, 7]", "assertion(candidate(*inp), exp, 1e-6)"),
        plus_test("", "assertion(candidate(*inp), ref_func(*inp), 0)", "def ref_func(a, b):\n    return a + b"),
    ],
)
def test_the_published_layout_needs_no_numpy(test):
    question = humaneval.question_of(Record(HUMANEVAL | {"test": test}))
    assert question.mode == "checks"
    assert not any("numpy" in pair.input for pair in question.private)
    assert judged(question, question.program) == [True, True]
    assert judged(question, "def add(a, b): return 3") == [True, False]


def test_a_polynomials_root_is_judged_as_one():
    loop = "assert _poly(*candidate(*inp), inp) <= 0.0001"
    test = plus_test("results = [0, 0]", loop).replace("[[1, 2], [3, 4]]", "[[[-2, 1]], [[-4, 0, 1]]]")
    question = humaneval.question_of(Record(HUMANEVAL | {"test": test, "entry_point": "find_zero"}))
    assert judged(question, "def find_zero(xs): return 2.0") == [True, True]
    assert judged(question, "def find_zero(xs): return -2") == [False, True]


def test_assertions_of_mbpp_become_pairs_of_the_function_they_call():
    question = mbpp.question_of(Record(MBPP))
    assert (question.mode, question.entry) == ("function", "add")
    assert question.private == (IOPair(input="1, 2", output="3"), IOPair(input="(1,), (2,)", output="(1, 2)"))
    assert "\r" not in question.program
    assert question.statement.endswith("assert add((1,), (2,)) == (1, 2)")


def test_setup_of_mbpp_runs_after_the_program_whose_classes_it_uses():
    record = MBPP | {
        "code": "class Node:\n    value = 1\ndef get(node):\n    return node.value",
        "test_setup_code": "root = Node()",
        "test_list": ["assert get(root) == 1"],
    }
    question = mbpp.question_of(Record(record))
    assert (question.mode, question.entry) == ("checks", "get")
    assert judged(question, question.program) == [True]
    assert judged(question, question.program.replace("= 1", "= 2")) == [False]


def test_types_that_json_lost_come_back_from_the_assertions():
    (check, second) = mbpp.question_of(Record(MBPPPLUS)).private
    assert "[[(1,), [(2, 3)]]]" in check.input
    assert "[[(), [(4, 5)]]]" in second.input


def test_results_in_any_order_pass_where_evalplus_lets_them():
    record = MBPPPLUS | {"entry_point": "Diff", "canonical_solution": "def Diff(a, b):\n    return [1, 2]\n"}
    question = mbpp.question_of(Record(record))
    assert all(judged(question, "def Diff(a, b): return [2, 1]"))
    assert not any(judged(question, "def Diff(a, b): return [2]"))


@pytest.mark.parametrize(
    ("name", "record", "changes", "words"),
    [
        ("humaneval", HUMANEVAL, {"prompt": ...}, "field prompt: missing"),
        ("humaneval", HUMANEVAL, {"task_id": 3}, "field task_id: expected text, found a number"),
        ("humaneval", HUMANEVAL, {"test": "def check(candidate"}, "field test: expected Python code"),
        ("humaneval", HUMANEVAL, {"test": "def other(): pass"}, "field test: expected Python code"),
        ("humaneval", HUMANEVAL, {"test": "def check(candidate): pass"}, "field private"),
        ("humaneval", HUMANEVAL, {"test": f"x = {'[' * 5000}"}, "field test"),
        ("humanevalplus", PLUS, {"plus_input": "1"}, "field plus_input: expected a list, found text"),
        ("humanevalplus", PLUS, {"base_input": [1]}, "field base_input: expected lists of arguments"),
        ("humanevalplus", PLUS, {"atol": "0"}, "field atol: expected a number"),
        ("mbpp", MBPP, {"task_id": "x"}, "field task_id"),
        ("mbpp", MBPP, {"test_list": [1]}, "field test_list: expected a list of texts"),
        ("mbpp", MBPP, {"test_list": []}, "field test_list: no function"),
        ("mbpp", MBPP, {"test_list": ["import os"]}, "field test_list: expected Python assertions"),
        ("mbpp", MBPP, {"test_list": ["assert other(1) == 1"]}, "field test_list: no function"),
        ("mbpp", MBPP, {"code": "def"}, "field code: expected a Python program"),
        ("mbppplus", MBPPPLUS, {"base_input": {}}, "field base_input: expected a list, found an object"),
        ("azr", AZR, {"input": 3}, "field input: expected text"),
        ("azr", AZR, {"inputs": ["1"], "outputs": [], "message": "m"}, "field outputs: expected one for each input"),
        ("cruxeval", CRUXEVAL, {"code": None}, "field code: expected text, found null"),
    ],
)
def test_a_broken_record_is_one_error_that_names_line_and_field(tmp_path, name, record, changes, words):
    file = tmp_path / "file.jsonl"
    file.write_text(json.dumps({key: value for key, value in (record | changes).items() if value is not ...}) + "\n")
    with pytest.raises(BadInput, match=rf"file\.jsonl, line 1, {words}") as error:
        load_questions(f"{name}:{file}", "test")
    assert "\n" not in str(error.value)


def test_a_triplet_is_a_program_and_one_pair(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps(AZR))
    (question,) = load_questions(f"azr:{tmp_path}/t.jsonl", "test").questions
    assert question.private == (IOPair(input="'a', 2", output="'aa'"),)
    assert question.program.startswith("import math\ndef f")


def test_an_induction_record_shows_half_of_its_pairs(tmp_path):
    record = {"snippet": "def f(a): return a", "inputs": list("12345"), "outputs": list("12345"), "message": "Give it back."}
    (tmp_path / "t.jsonl").write_text(json.dumps(record))
    (question,) = load_questions(f"azr:{tmp_path}/t.jsonl", "test").questions
    assert (question.statement, len(question.public), len(question.private)) == ("Give it back.", 2, 3)


@pytest.mark.parametrize("changes", [{"output": "[1, 2, ..."}, {"output": "<function f at 0x7f>"}, {"input": "dict(a=1)"}])
def test_what_is_no_literal_is_unverifiable_and_never_wrong(tmp_path, changes):
    (tmp_path / "t.jsonl").write_text(json.dumps(AZR | changes))
    (left,) = read_question_records(parse_spec(f"azr:{tmp_path}/t.jsonl", "test"))
    assert isinstance(left, LeftOutRecord)
    with pytest.raises(BadInput, match="no Python literal"):
        load_questions(f"azr:{tmp_path}/t.jsonl?errata=keep", "test")


def test_a_record_that_computes_is_not_executed(tmp_path):
    mark = tmp_path / "executed"
    attack = f"open({str(mark)!r}, 'w')"
    test = f"{attack}\ndef check(candidate):\n    assert candidate({attack}) == 1\n"
    records = {
        "humaneval": HUMANEVAL | {"prompt": f"{attack}\n", "test": test},
        "mbpp": MBPP | {"test_setup_code": attack, "test_list": [f"assert add({attack}, 1) == {attack}"]},
        "mbppplus": MBPPPLUS | {"assertion": f"assert pair_up({attack}) == 1", "canonical_solution": attack},
        "azr": AZR | {"snippet": attack, "input": attack},
    }
    for name, record in records.items():
        (tmp_path / name).write_text(json.dumps(record))
        assert len(list(read_question_records(parse_spec(f"{name}:{tmp_path}/{name}", "test")))) == 1
    assert not mark.exists()


def test_mbpps_split_follows_the_use_unless_it_is_set(tmp_path):
    tasks = [MBPP | {"task_id": n, "text": str(n)} for n in (10, 11, 510, 511, 601, 974)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    spellings = [("", "test"), ("", "train"), ("", "goalposts"), ("?split=prompt", "train"), ("?split=all", "test")]
    sizes = [len(load_questions(f"mbpp:{tmp_path}/m.jsonl{options}", use).questions) for options, use in spellings]
    assert sizes == [2, 2, 2, 1, 6]


@pytest.mark.parametrize(
    ("setting", "size"),
    [
        ("humaneval:humaneval/HumanEval.jsonl", 164),
        ("humanevalplus:humaneval/HumanEvalPlus.jsonl.gz", 164),
        ("humanevalplus:humaneval/HumanEvalPlus-OriginFmt.jsonl.gz?limit=40", 40),
        ("mbpp:mbpp/mbpp.jsonl", 500),
        ("mbpp:mbpp/mbpp.jsonl?split=all", 974),
        ("mbpp:mbpp/sanitized-mbpp.json?split=all", 427),
        ("mbppplus:mbpp/MbppPlus.jsonl", 378),
        ("azr:azr/3b_coder_seed_io.jsonl", 217),
        ("azr:azr/3b_coder_code_f_seed_io.jsonl", 217),
        ("cruxeval:cruxeval/cruxeval.jsonl", 787),
    ],
)
def test_the_real_files_load(setting, size):
    name, _, rest = setting.partition(":")
    file, mark, options = rest.partition("?")
    questions = load_questions(f"{name}:{record_file(file)}{mark}{options}", "test").questions
    assert len(questions) == size
    assert all(question.program and question.private for question in questions)


def test_a_test_that_has_no_literal_is_refused():
    with pytest.raises(FieldError, match="test: its values cannot be written as literals"):
        humaneval.question_of(Record(PLUS | {"base_input": [[[]]], "plus_input": [[json.loads("[" * 150 + "]" * 150)]]}))
