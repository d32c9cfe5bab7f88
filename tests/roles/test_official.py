"""Verdicts beside those of the benchmarks' own tools: EvalPlus's, and LiveCodeBench's official checker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks import completions
from events.facts.errors import BadInput
from events.facts.values import IOPair, Question
from events.pure.literal import write
from roles.judging.run_tests import run_programs
from roles.questions.load import load_questions
from roles.questions.named_sets import parse_spec
from roles.questions.question_set import save_questions
from roles.questions.records import QuestionRecord, read_question_records
from roles.verifier import Verifier
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Limits
from tests.support.benchmark_data import case_file, record_file

pytestmark = pytest.mark.docker

PATIENT = Limits(wall_seconds=120, cpu_seconds=2, memory_mb=1024, output_kb=4096)
"""Of the processor rather than by the clock, lest a busy machine decide."""


@pytest.fixture(scope="module")
def patient():
    runner = DockerRunner(PATIENT, workers=2, run="tests-official")
    yield runner
    asyncio.run(runner.close())


def rows(name):
    return [json.loads(line) for line in case_file(name).read_text().splitlines()]


async def test_completions_of_humaneval_plus_get_evalplus_verdict(patient):
    file = record_file("humaneval/HumanEvalPlus.jsonl.gz")
    entries = {
        entry.label.name: entry
        for entry in read_question_records(parse_spec(f"humanevalplus:{file}", "test"))
        if isinstance(entry, QuestionRecord)
    }
    ruled = {entry.question.id: entry.rules for entry in entries.values()}
    verifier = Verifier(patient, 5, 2, per_test=True, question_rules=ruled)

    async def differs(row):
        (verdict,) = (await verifier.judge(entries[row["task_id"]].question, "induction", None, [row["completion"]])).verdicts
        return (verdict.outcome == "passed") != (row["evalplus_with_preamble"]["plus"] == "pass")

    graded = rows("humaneval_completions.jsonl")
    differing = await asyncio.gather(*map(differs, graded))
    assert [row["task_id"] for row, wrong in zip(graded, differing, strict=True) if wrong] == []


async def test_programs_get_the_verdict_of_livecodebenchs_checker(patient):
    async def differs(row):
        if row["entry"]:
            stdin, output = (write(json.loads(row[name]), 1 << 20) for name in ("input", "output"))
            question = Question(statement="?", entry=f"Solution.{row['entry']}", private=(IOPair(input=stdin, output=output),))
        else:
            question = Question(statement="?", mode="stdin", private=(IOPair(input=row["input"], output=row["output"]),))
        trials = await run_programs(patient, question, [row["program"]], "livecodebench", per_test=True)
        return (trials[row["program"]].verdict.outcome == "passed") != bool(row["official"])

    graded = rows("livecodebench_checker.jsonl")
    differing = await asyncio.gather(*map(differs, graded))
    assert [row["name"] for row, wrong in zip(graded, differing, strict=True) if wrong] == []


# What stands on the next lines is 2 and three lines, of which one is blank and the last does not end. Right is "5 7".
GIVEN = IOPair(input="2\n\n5 7", output="5 7\n")
READ = [
    ("lines by sys.stdin", "import sys\nn, blank, last = sys.stdin.readline(), sys.stdin.readline(), sys.stdin.readline()\nassert (n, blank, last, sys.stdin.readline()) == ('2\\n', '\\n', '5 7', '')\nprint(last)", 1),
    ("input over a blank line", "input(); assert input() == ''\nprint(input())", 1),
    ("input behind the end", "for _ in range(3): last = input()\ntry: input()\nexcept EOFError: print(last)", 1),
    ("a prompt is printed", "input('?'); input(); print(input())", 0),
    ("a bound stream's lines have no ends", "from sys import stdin\nassert (stdin.readline(), stdin.readline()) == ('2', '')\nprint(stdin.readline())", 1),
    ("a bound stream has an end that is no line", "from sys import stdin\nwhile line := stdin.readline(): last = line\nprint('5 7')", 1),
    ("a bound stream behind the end", "from sys import stdin\nfor _ in range(4): last = stdin.readline()\nprint('5 7')", 0),
    ("a bound stream whole", "from sys import stdin\nassert stdin.read() == stdin.read()\nprint(stdin.readlines()[2])", 1),
    ("a bound stream by another name", "from sys import stdin as given\nprint(given.read().split('\\n')[-1])", 1),
    ("a bound stream, item by item", "from sys import stdin\nprint([line for line in stdin][2])", 0),
    ("sys.__stdin__, which is closed", "import sys\nprint(sys.__stdin__.read().split('\\n')[-1])", 0),
    ("a bound method of the present stream", "import sys\nread = sys.stdin.readline\nread(); read(); print(read())", 1),
    ("lines, however often", "import sys\nassert sys.stdin.readlines() == sys.stdin.readlines()\nprint(sys.stdin.readlines()[-1])", 1),
    ("some characters are all", "import sys\nprint(sys.stdin.read(1)[-3:])", 1),
    ("a line by iter", "import sys\n*_, last = iter(sys.stdin.readline, '')\nprint(last)", 1),
    ("fileinput", "import fileinput\n*_, last = fileinput.input()\nprint(last)", 1),
    ("builtins.open", "import builtins\nprint(builtins.open('/nowhere').read().split('\\n')[-1])", 1),
    ("descriptor 0", "import os\nos.lseek(0, 0, 0)\nprint(os.read(0, 99).decode()[-3:] or 'nothing')", 0),
    ("/dev/stdin", "print(open('/dev/stdin').read()[-3:])", 0),
    ("descriptor 0 in the buffer of a bound stream", "from sys import stdin\nprint(stdin.buffer.read()[-3:].decode())", 0),
]  # fmt: skip
PRINTED = [
    ("print", "print(5, 7)", 1),
    ("beside a module that the checker has", "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\nprint(5, 7)", 1),
    ("sys.stdout", "import sys\nsys.stdout.write('5 7')", 1),
    ("in a function", "def go():\n    from sys import stdout\n    stdout.write('5 7')\ngo()", 1),
    ("by a thread that ends", "import threading\nt = threading.Thread(target=print, args=(5, 7))\nt.start(); t.join()", 1),
    ("by a thread that does not", "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.3), print(5, 7))).start()", 0),
    ("and then an exit", "import sys\nprint(5, 7)\nsys.exit(3)", 1),
    ("and a word elsewhere", "import os, sys\nos.write(1, b'no')\nsys.__stdout__.write('no')\nprint(5, 7)", 1),
    ("to descriptor 1", "import os\nos.write(1, b'5 7')", 0),
    ("to every descriptor that is low", "import os\nfor fd in (1, 2):\n    os.write(fd, b'5 7')", 0),
    ("to /dev/stdout", "open('/dev/stdout', 'w').write('5 7')", 0),
    ("by fdopen", "import os\nos.fdopen(1, 'w').write('5 7')", 0),
    ("to sys.__stdout__", "import sys\nsys.__stdout__.write('5 7')\nsys.__stdout__.flush()", 0),
    ("to a bound stream", "from sys import stdout\nprint(5, 7, file=stdout, flush=True)", 0),
    ("to a stream of its own", "import sys, io\nsys.stdout = io.StringIO()\nprint(5, 7)", 0),
    ("and closed", "import sys\nprint(5, 7)\nsys.stdout.close()", 0),
    ("with the stream as a context", "import sys\nwith sys.stdout as out: out.write('5 7')", 0),
    ("by a half of it", "import os\nif not os.fork(): print(5, 7)", 0),
    ("by a half of it that posix makes", "import posix\nif not posix.fork(): print(5, 7)", 0),
    ("beside a thread that never ends", "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\nprint(5, 7)", 1),
    ("before an exit handler that ends the process", "import atexit, os\natexit.register(os._exit, 3)\nprint(5, 7)", 1),
    ("at exit", "import atexit\natexit.register(print, 5, 7)", 0),
    ("before os._exit", "import os\nprint(5, 7)\nos._exit(0)", 0),
    ("by another program", "import subprocess\nsubprocess.run(['echo', '5 7'])", 0),
    ("by a class Solution", "class Solution:\n    def go(self): print(5, 7)\nSolution().go()", 0),
    ("by a class of data", "from dataclasses import dataclass\n@dataclass\nclass Two:\n    a: int\nprint(5, Two(7).a)", 1),
    ("by a class of data that names a type in quotes", "from dataclasses import dataclass\n@dataclass\nclass Two:\n    a: 'int'\nprint(5, Two(7).a)", 0),
    ("in bytes", "import sys\nsys.stdout.buffer.write(b'5 7')", 0),
]  # fmt: skip
LONG = IOPair(input="", output=f"{'1' + '0' * 40_000}")
LONG_TEXTS = [("40 001 digits", "print(10**40000)", 1), ("as a value", "n = int('1' + '0' * 40000)\nprint(n)", 1)]
TOO_LONG = IOPair(input="", output=f"{'1' + '0' * 50_000}")
TOO_LONG_TEXTS = [("50 001 digits", "print(10**50000)", 0), ("without a number", "print('1' + '0' * 50000)", 1)]


@pytest.mark.parametrize(
    ("pair", "programs"),
    [(GIVEN, READ), (GIVEN, PRINTED), (LONG, LONG_TEXTS), (TOO_LONG, TOO_LONG_TEXTS)],
    ids=["reading", "printing", "long numbers", "longer numbers"],
)
async def test_programs_run_as_livecodebenchs_checker_runs_them(patient, pair, programs):
    question = Question(statement="?", mode="stdin", private=(pair,))
    trials = await run_programs(patient, question, [program for _, program, _ in programs], "livecodebench", per_test=False)
    verdicts = {name: int(trials[program].verdict.outcome == "passed") for name, program, _ in programs}
    assert verdicts == {name: passes for name, _, passes in programs}


VALUES = [
    ("Fraction(1, 2)", "0.5", 1), ("Fraction(6, 2)", "3", 1), ("Fraction(1, 3)", "0.3333333333333333", 0),
    ("Decimal(3)", "3", 1), ("Decimal('0.5')", "0.5", 1), ("Decimal('0.1')", "0.1", 0), ("Decimal('nan')", "3", 0),
    ("Decimal('inf')", "inf", 1), ("[Decimal(3), (Fraction(1, 2),)]", "[3, (0.5,)]", 1),
    ("{'a': Fraction(4)}", "{'a': 4}", 1), ("collections.Counter('aa')", "{'a': 2}", 1),
    ("collections.OrderedDict(a=[True])", "{'a': [1]}", 1), ("collections.UserList([1])", "[1]", 1),
    ("types.MappingProxyType({'a': 1})", "{'a': 1}", 1), ("collections.namedtuple('P', 'x')(1)", "(1,)", 1),
    ("enum.IntEnum('E', 'a').a", "1", 1), ("{1: 0}.keys()", "{1}", 1), ("iter([1])", "[1]", 0),
    ("range(2)", "[0, 1]", 0), ("collections.deque([1])", "[1]", 0), ("Yes()", "1", 0), ("Always(1, 2)", "3", 0),
]  # fmt: skip
HEAD = """import collections, enum, types
from decimal import Decimal
from fractions import Fraction
class Yes:
    def __eq__(self, other): return True
class Always(Fraction):
    def __eq__(self, other): return True
    __hash__ = None
"""


@pytest.mark.parametrize("rules", ["livecodebench", "evalplus"])
async def test_a_result_is_right_if_python_calls_it_equal_and_nobody_asks_it(patient, rules):
    entry, start = (
        ("Solution.get", "class Solution:\n    def get(self): return ")
        if rules == "livecodebench"
        else ("get", "def get(): return ")
    )
    passed = {}
    for value, expected, _ in VALUES:
        question = Question(statement="?", entry=entry, private=(IOPair(input="", output=expected),))
        program = f"{HEAD}{start}{value}"
        passed[value] = (await run_programs(patient, question, [program], rules, per_test=False))[
            program
        ].verdict.outcome == "passed"
    assert passed == {value: bool(passes) for value, _, passes in VALUES}


MORE = Question(
    statement="Add one.",
    entry="more",
    context="from typing import List\n\ndef one(): return 1",
    private=(IOPair(input="[1]", output="[2]"), IOPair(input="[0.1]", output="[1.1]")),
)
ANSWERS = [
    ("with what the question shows", "def more(x: List): return [n + one() for n in x]", 1, 1),
    ("with a helper of its own", "def one(): return 1.0\ndef more(x: List): return [n + one() for n in x]", 1, 1),
    ("with a helper that is wrong", "def one(): return 2\ndef more(x: List): return [n + one() for n in x]", 0, 0),
    ("from a future", "from __future__ import annotations\ndef more(x: List): return [n + one() for n in x]", 1, 1),
    ("nearly", "def more(x): return [n + 1 + (1e-7 if n % 1 else 0) for n in x]", 0, 1),
    ("as a tuple", "def more(x): return tuple(n + 1 for n in x)", 0, 0),
    ("with a demonstration that fails", "def more(x): return [n + 1 for n in x]\nassert more([1]) == [3]", 0, 1),
    ("with an exit", "def more(x): return [n + 1 for n in x]\nraise SystemExit", 0, 1),
    ("with a file", "def more(x):\n    open('/tmp/x', 'w')\n    return [n + 1 for n in x]", 1, 0),
]


@pytest.mark.parametrize("mode", ["function", "checks"])
async def test_the_context_counts_and_evalplus_looks_at_definitions_only(patient, mode):
    question = MORE
    if mode == "checks":
        near = "got, want = candidate({0}), {1}\nassert type(got) is type(want) and all(abs(a - b) <= {2} for a, b in zip(got, want))"
        question = MORE.model_copy(update={"mode": "checks", "private": ()})
    for rules, place in (("own", 0), ("evalplus", 1)):
        if mode == "checks":
            limit = (1e-9, 1e-6)[place]
            checks = tuple(IOPair(input=near.format(pair.input, pair.output, limit), output="") for pair in MORE.private)
            question = question.model_copy(update={"private": checks})
        verifier = Verifier(patient, 5, 2, question_rules={question.id: rules})
        texts = [f"```python\n{program}\n\n```" for _, program, *_ in ANSWERS]
        verdicts = (await verifier.judge(question, "induction", None, texts)).verdicts
        passed = {name: int(verdict.outcome == "passed") for (name, *_), verdict in zip(ANSWERS, verdicts, strict=True)}
        assert passed == {name: passes[place] for name, _, *passes in ANSWERS}, rules
        assert verifier.provenance_of(question).rules == rules


async def test_context_stands_before_programs_of_every_mode(patient):
    context = "from math import gcd as common\nK = 2"
    stdin = Question(statement="?", mode="stdin", context=context, private=(IOPair(input="4 6", output="4"),))
    method = Question(statement="?", entry="Solution.f", context=context, private=(IOPair(input="4, 6", output="4"),))
    printing = "print(K * common(*map(int, input().split())))"
    returning = "class Solution:\n    def f(self, a, b): return K * common(a, b)"
    future = f"from __future__ import annotations\n{printing}"
    assert (await run_programs(patient, stdin, [future], "own", per_test=False))[future].verdict.outcome == "passed"
    for question, program in ((stdin, printing), (method, returning)):
        for rules in ("own", "livecodebench", "evalplus"):
            trials = await run_programs(patient, question, [program], rules, per_test=False)
            assert trials[program].verdict.outcome == "passed", (question.mode, rules)


async def test_an_abduction_runs_the_program_behind_its_context(patient):
    question = MORE.model_copy(update={"program": "def more(x): return [n + one() for n in x]"})
    verdicts = (
        await Verifier(patient, 5, 2).judge(question, "abduction", 0, ["```input\n[1]\n```", "```input\n[2]\n```"])
    ).verdicts
    assert [verdict.outcome for verdict in verdicts] == ["passed", "wrong_answer"]
    (deduced,) = (await Verifier(patient, 5, 2).judge(question, "deduction", 0, ["```output\n[2]\n```"])).verdicts
    assert deduced.outcome == "passed"


async def test_evalplus_leaves_programs_and_classes_to_our_own_rules(patient):
    verifier = Verifier(patient, 5, 2, rules="evalplus")
    stdin = Question(statement="?", mode="stdin", private=(IOPair(input="4", output="4"),))
    method = Question(statement="?", entry="Solution.f", private=(IOPair(input="4", output="4"),))
    for question, program in ((stdin, "print(input())"), (method, "class Solution:\n    def f(self, a): return a")):
        verdicts = (await verifier.judge(question, "induction", None, [f"```python\n{program}\n```"])).verdicts
        assert (verdicts[0].outcome, verifier.provenance_of(question).rules) == ("passed", "own")


def test_questions_keep_context_and_rules_in_a_file(tmp_path):
    plain = Question(statement="Plain.", private=(IOPair(input="1", output="1"),))
    save_questions(tmp_path / "q.jsonl", [MORE, plain], {MORE.id: "evalplus"})
    loaded = load_questions(str(tmp_path / "q.jsonl"), "test")
    assert loaded.questions == (MORE, plain)
    assert loaded.rules == {MORE.id: "evalplus"}
    assert "context" not in (tmp_path / "q.jsonl").read_text().splitlines()[1]
    assert plain.id == "1e32b0d1cc6abb5e"


def test_a_file_of_completions_is_judged_and_a_python_without_evalplus_is_named(tmp_path, capsys):
    record = {"task_id": "HumanEval/0", "prompt": "from math import gcd\n\n\ndef f(a, b):\n", "entry_point": "f", "atol": 0}
    record |= {"canonical_solution": "    return gcd(a, b)\n", "base_input": [[4, 6]], "plus_input": [[9, 6]]}
    (tmp_path / "set.jsonl").write_text(json.dumps(record))
    answers = ["def f(a, b):\n    return gcd(a, b)\nassert f(4, 6) == 1", "def f(a, b):\n    return 2"]
    rows_ = [json.dumps({"task_id": "HumanEval/0", "completion": answer}) for answer in answers]
    (tmp_path / "answers.jsonl").write_text("\n".join(rows_))
    spec = f"humanevalplus:{tmp_path / 'set.jsonl'}"
    completions.main(tmp_path / "answers.jsonl", spec, None, tmp_path / "out.jsonl")
    assert capsys.readouterr().out == "1 of 2 pass\n"
    judged = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["ours"] for row in judged] == ["passed", "wrong_answer"]
    with pytest.raises(BadInput, match=r"cannot ask EvalPlus .* give a Python with"):
        completions.main(tmp_path / "answers.jsonl", spec, Path("/usr/bin/false"))
    (tmp_path / "answers.jsonl").write_text('{"task_id": "HumanEval/9", "completion": "x"}')
    with pytest.raises(BadInput, match=r"answers\.jsonl, record 1: expected a task_id of the set"):
        completions.main(tmp_path / "answers.jsonl", spec)
