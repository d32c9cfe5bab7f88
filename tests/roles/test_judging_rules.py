"""Answers under each set of rules, on the real sandbox: what counts as right, whose limits they are, and what no answer can fake."""

from __future__ import annotations

import pytest

from events.facts.values import IOPair, Question
from roles.verifier import Verifier
from sandbox.compare import python_equal
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Limits

pytestmark = pytest.mark.docker

LISTS = Question(
    statement="Append.",
    entry="Solution.add",
    private=(IOPair(input="[1, 2], 3", output="[1, 2, 3]"), IOPair(input="[], 1", output="[1]")),
)
SUMS = Question(
    statement="Add.", mode="stdin", private=(IOPair(input="3\n1 2\n", output="6"), IOPair(input="1\n0 0", output="1.0\n"))
)
CHECKS = Question(
    statement="Add one.",
    entry="more",
    mode="checks",
    private=(
        IOPair(input="assert candidate(1) == 2", output=""),
        IOPair(input="import math\nassert math.isclose(more(2), 3.0)\nassert all(x == 1 for x in [candidate(0)])", output=""),
    ),
)


def python(source):
    return f"```python\n{source}\n```"


async def judged(runner, question, answers, **how):
    verifier = Verifier(runner, pairs=5, public_pairs=2, **how)
    return (await verifier.judge(question, "induction", None, [python(answer) for answer in answers])).verdicts


HEAD = "class Solution:\n    def add(self, a, b):\n        "
METHODS = [
    ("an annotation of LeetCode's", "class Solution:\n    def add(self, a: List[int], b: int) -> List[int]: return a + [b]", 1, 1),
    ("a tuple", HEAD + "return (*a, b)", 0, 1),
    ("floats", HEAD + "return [float(x) for x in a + [b]]", 1, 1),
    ("true for one", HEAD + "return [x == 1 or x for x in a + [b]]", 0, 1),
    ("a future import", "from __future__ import annotations\n" + HEAD + "return a + [b]", 1, 0),
    ("the end of the program", HEAD + "raise SystemExit", 0, 0),
    ("an object for all calls", "class Solution:\n    seen = 0\n    def __init__(self): self.n = 0\n" + HEAD[16:] + "self.n += 1\n        return a + [b] if self.n == 1 else 0", 1, 0),
    ("equal to everything", "class Yes(list):\n    def __eq__(self, other): return True\n" + HEAD + "return Yes()", 0, 0),
    ("a plain function", "def add(a, b): return a + [b]", 0, 1),
]  # fmt: skip
PROGRAMS = [
    ("input", "n = int(input())\na, b = map(int, input().split())\nprint(n + a + b)", 1, 1),
    ("the lines of standard input", "import sys\nprint(sum(int(x) for line in sys.stdin for x in line.split()))", 1, 0),
    ("all at once, then sys.exit", "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nsys.exit(1)", 1, 1),
    ("a second line as bytes", "import sys\nread = sys.stdin.buffer.readline\nn = int(read())\na, b = map(int, read().split())\nprint(n + a + b)", 1, 0),
    ("descriptor 0", "print(sum(map(int, open(0).read().split())))", 1, 0),
    ("a global of a helper", "t = 0\ndef go():\n    global t\n    t += sum(map(int, (input() + ' ' + input()).split()))\ngo()\nprint(t)", 1, 0),
    ("a guard at the end", "def go(): print(sum(map(int, (input() + ' ' + input()).split())))\nif __name__ == '__main__':\n    go()", 1, 1),
    ("a guard before the end", "if __name__ == '__main__':\n    print(sum(map(int, (input() + ' ' + input()).split())))\nx = 1", 1, 0),
    ("a future import", "from __future__ import annotations\nprint(sum(map(int, (input() + ' ' + input()).split())))", 1, 0),
    ("quit", "print(sum(map(int, (input() + ' ' + input()).split())))\nquit()", 1, 0),
    ("bytes printed", "import sys\nsys.stdout.buffer.write(b'%d' % sum(map(int, sys.stdin.read().split())))", 1, 0),
    ("a return from the top level", "print(sum(map(int, (input() + ' ' + input()).split())))\nreturn", 0, 1),
    ("nothing", "# nothing", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answers"), [(LISTS, METHODS), (SUMS, PROGRAMS)], ids=["methods", "programs"])
async def test_answers_pass_by_our_rules_and_by_livecodebenchs(runner, question, answers):
    sources = [source for _, source, _, _ in answers]
    ours = await judged(runner, question, sources)
    official = await judged(runner, question, sources, rules="livecodebench")
    passes = {
        name: (own.outcome == "passed", other.outcome == "passed")
        for (name, *_), own, other in zip(answers, ours, official, strict=True)
    }
    assert passes == {name: (bool(own), bool(other)) for name, _, own, other in answers}


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        ("3", "3.0", True), ("1", "True", True), ("[1, 2]", "(1, 2)", True), ("[[1], [2]]", "[(1,), (2,)]", False),
        ("0.3", "0.30000000000000004", False), ("'a'", "a", False), ("1", "__import__('os')", False),
    ],
)  # fmt: skip
def test_livecodebench_compares_as_python_does(expected, got, verdict):
    assert python_equal(expected, got) is verdict


async def test_a_syntax_error_inside_of_a_harness_is_one(runner):
    for question in (LISTS, CHECKS):
        (verdict,) = await judged(runner, question, ["def more(x: return x"])
        assert (verdict.outcome, verdict.passed) == ("syntax_error", 0)


@pytest.fixture
async def brisk():
    """Limits that two slow tests exceed together, and neither alone."""
    runner = DockerRunner(Limits(wall_seconds=2, cpu_seconds=1), workers=2, run="tests-rules")
    yield runner
    await runner.close()


SLOW = Question(statement="Wait.", private=tuple(IOPair(input=str(n), output=str(n)) for n in range(4)))


async def test_limits_of_each_test_are_not_used_up_by_those_before_it(brisk):
    naps = "import time\ndef f(x):\n    time.sleep(0.7)\n    return x"
    assert [v.outcome for v in await judged(brisk, SLOW, [naps])] == ["time_limit"]
    assert [v.passed for v in await judged(brisk, SLOW, [naps], per_test=True)] == [4]


async def test_the_first_failure_ends_a_trial_with_limits_per_test(brisk):
    wrong = "def f(x):\n    return 0 if x == 1 else x"
    hangs = "def f(x):\n    while x == 2: pass\n    return x"
    raises = "def f(x):\n    return (1 // x, x)[1]"
    shared = await judged(brisk, SLOW, [wrong, hangs, raises])
    assert [(v.outcome, v.passed) for v in shared] == [("wrong_answer", 3), ("time_limit", 2), ("runtime_error", 3)]
    assert [v.tests for v in shared] == [".w..", "..tt", "r..."]
    verifier = Verifier(brisk, 5, 2, per_test=True)
    alone = await verifier.judge(SLOW, "induction", None, [python(program) for program in (wrong, hangs, raises)])
    assert [(v.outcome, v.passed) for v in alone.verdicts] == [("wrong_answer", 1), ("time_limit", 2), ("runtime_error", 0)]
    assert [v.tests for v in alone.verdicts] == [".w", "..t", "r"]
    assert alone.usage["seconds"][1] < 5, "two limits: once behind other tests, once alone"


RIGHT = [
    "def more(x): return x + 1",
    "from __future__ import annotations\ndef more(x: int) -> int: return x + 1",
    "import builtins\nall = sum = None\ndef more(x): return x + 1",
    "class Number(int):\n    def __eq__(self, other): return False\ndef more(x): return Number(x + 1)",
]
FAKES = {
    "wrong": "def more(x): return x",
    "no such function": "def less(x): return x - 1",
    "equal to everything": "class Yes:\n    def __eq__(self, other): return True\ndef more(x): return Yes()",
    "a number equal to everything": "class Yes(int):\n    def __eq__(self, other): return True\ndef more(x): return Yes(9)",
    "a text that lies": "class Text(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\ndef more(x): return Text('no')",
    "sys.exit": "import sys\ndef more(x): sys.exit(0)",
    "sys.exit before the checks": "raise SystemExit(0)",
    "os._exit": "import os\ndef more(x): os._exit(0)",
    "builtins replaced": "import builtins\nbuiltins.all = lambda given: True\nbuiltins.AssertionError = KeyError\nbuiltins.isinstance = lambda *_: True\nbuiltins.exec = lambda *_: None\nbuiltins.__import__ = lambda *_: 0\ndef more(x): return x",
    "names of the checks": "candidate = lambda x: x + 1\nall = lambda given: True\ndef more(x): return 0",
    "math replaced": "import math\nmath.isclose = lambda *_: True\ndef more(x): return 2",
    "a module in its place": "import sys, types\nsys.modules['math'] = types.SimpleNamespace(isclose=lambda *_: True)\ndef more(x): return 2",
    "the harness by its modules": "import sys\nfor name, module in list(sys.modules.items()):\n    for key, thing in list(vars(module).items()) if name in ('__main__', 'solution') or 'sandbox' in name else ():\n        if callable(thing) and key != 'more': setattr(module, key, lambda *_: True)\ndef more(x): return 0",
    "the caller of the harness": "import sandbox.guest.child\nsandbox.guest.child._call = lambda *given: ('ok', repr(given[2]), '')\ndef more(x): return 0",
    "a tracer that leaves the checks": "import sys\ndef leave(frame, event, _):\n    if frame.f_code.co_filename.startswith('check'): frame.f_lineno = 3\n    return leave\nsys.settrace(leave)\ndef more(x):\n    sys.settrace(leave)\n    sys._getframe().f_back.f_trace = leave\n    return 0",
    "an exit handler": "import atexit, os\natexit.register(os._exit, 0)\ndef more(x): return 0",
    "words of its own": "print('ok')\ndef more(x):\n    print('ok', flush=True)\n    return 0",
}  # fmt: skip


async def test_checks_pass_what_is_right_and_nothing_that_only_looks_so(runner):
    verdicts = await judged(runner, CHECKS, RIGHT)
    assert [(v.outcome, v.passed, v.total) for v in verdicts] == [("passed", 2, 2)] * len(RIGHT)
    fakes = await judged(runner, CHECKS, list(FAKES.values()))
    assert [name for name, verdict in zip(FAKES, fakes, strict=True) if verdict.outcome == "passed"] == []
    outcomes = dict(zip(FAKES, (verdict.outcome for verdict in fakes), strict=True))
    assert outcomes["wrong"] == "wrong_answer"
    assert outcomes["os._exit"] == outcomes["equal to everything"] == "runtime_error"
