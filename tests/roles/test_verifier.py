"""The verifier on the real sandbox: what passes, what fails, and why."""

from __future__ import annotations

import asyncio
import time

import pytest

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question
from roles.judging.proposal_validator import RejectedProposal, ValidProposal
from roles.verifier import Verifier

pytestmark = pytest.mark.docker

SQUARES = Question(
    statement="Square every number.",
    program="def f(x):\n    x = [v * v for v in x]\n    return x",
    public=(IOPair(input="[1, 2]", output="[1, 4]"),),
    private=(IOPair(input="[3]", output="[9]"), IOPair(input="[]", output="[]")),
)
ECHO = Question(
    statement="Echo.", mode="stdin", private=(IOPair(input="3 4\n", output="7"), IOPair(input="1 1\n", output="2\n"))
)


def python(source):
    return f"```python\n{source}\n```"


def proposal(source, statement="Say it.", inputs="[1, 2]\n[3]\n[5, 5]\n[0]\n[7, 1]"):
    return f"{python(source)}\n```message\n{statement}\n```\n```input\n{inputs}\n```"


@pytest.fixture
def verifier(runner):
    return Verifier(runner, pairs=5, public_pairs=2, truth=lambda s: SQUARES.program if s == "squares" else None)


@pytest.mark.parametrize(
    ("answer", "outcome", "passed"),
    [
        (python(SQUARES.program), "passed", 3),
        (python("def f(x):\n    return [v * 2 for v in x]"), "wrong_answer", 1),
        (python("def f(x):\n    return 1 / 0"), "runtime_error", 0),
        (python("def f(x)\n    return x"), "syntax_error", 0),
        (python("def g(x):\n    return x"), "runtime_error", 0),
        (python("def f(x):\n    while True: pass"), "time_limit", 0),
        (python("import os\ndef f(x):\n    os._exit(0)"), "runtime_error", 0),
        ("no program at all", "malformed", 0),
        (python("class L(list):\n    def __eq__(s, o): return True\ndef f(x):\n    return L()"), "wrong_answer", 0),
    ],
)
async def test_a_program_gets_the_verdict_it_earns(verifier, answer, outcome, passed):
    (verdict,) = (await verifier.judge(SQUARES, "induction", None, [answer])).verdicts
    assert (verdict.outcome, verdict.passed) == (outcome, passed)


async def test_stdin_programs_are_judged_by_what_they_print(verifier):
    right = python("a, b = map(int, input().split())\nprint(a + b)")
    verdicts = (await verifier.judge(ECHO, "induction", None, [right, python("print(7)")])).verdicts
    assert [(v.outcome, v.passed) for v in verdicts] == [("passed", 2), ("wrong_answer", 1)]


async def test_deduction_compares_values_not_text(verifier):
    answers = ["```output\n[ 1,4 ]\n```", "```output\n[1, 5]\n```", "```output\nopen('x')\n```", "nothing"]
    verdicts = (await verifier.judge(SQUARES, "deduction", 0, answers)).verdicts
    assert [v.outcome for v in verdicts] == ["passed", "wrong_answer", "malformed", "malformed"]


async def test_abduction_accepts_any_input_that_gives_the_output(verifier):
    answers = ["```input\n[-1, 2]\n```", "```input\n[1, 2]\n```", "```input\n[2]\n```", "```input\n'a'\n```"]
    verdicts = (await verifier.judge(SQUARES, "abduction", 0, answers)).verdicts
    assert [v.outcome for v in verdicts] == ["passed", "passed", "wrong_answer", "runtime_error"]


async def test_a_verdict_tells_what_came_of_each_test(verifier):
    forgetful = "def f(x):\n    return [v * v for v in x] if len(x) > 1 else x[0] + 1"
    verdicts = (await verifier.judge(SQUARES, "induction", None, [python(SQUARES.program), python(forgetful), "?"])).verdicts
    assert [(v.tests, v.passed) for v in verdicts] == [("...", 3), (".wr", 1), ("", 0)]
    assert [v.detail for v in verdicts[:2]] == ["", "gave 4"]
    verdicts = (
        await verifier.judge(SQUARES, "abduction", 1, ["```input\n[-3]\n```", "```input\n[4]\n```", "```input\n4\n```", "?"])
    ).verdicts
    assert [v.tests for v in verdicts] == [".", "w", "r", ""]


async def test_equal_answers_get_equal_verdicts_in_order(verifier):
    good, bad = python(SQUARES.program), python("def f(x):\n    return x")
    verdicts = (await verifier.judge(SQUARES, "induction", None, [good, bad, "?", good])).verdicts
    assert [v.outcome for v in verdicts] == ["passed", "wrong_answer", "malformed", "passed"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rubbish", "malformed"),
        (proposal("def f(x)\n    return x"), "broken"),
        (proposal("def f(x):\n    return x[9]"), "broken"),
        (proposal("import os\ndef f(x):\n    return os.listdir()"), "unsafe"),
        (proposal("def f(x):\n    return x.__class__"), "unsafe"),
        (proposal("def f(x):\n    x = [v * v for v in x]\n    return len(x) > 9"), "degenerate"),
        (
            proposal("def f(x):\n    x = [v * v for v in x]\n    x = sorted(x, key=abs)\n    x = sorted(x)\n    return x"),
            "degenerate",
        ),
        (proposal("n = []\ndef f(x):\n    n.append(1)\n    return x + n"), "nondeterministic"),
        (proposal(SQUARES.program, inputs="[1]\n[2]"), "malformed"),
        (proposal(SQUARES.program, inputs="[1]\n[2]\n[1]\n[2]\n[3]"), "degenerate"),
        (proposal(SQUARES.program, inputs="[1]\n[2]\n[1 ]\n[2.0]\n[3]"), "degenerate"),
        (proposal("import posix\ndef f(x):\n    return posix.getpid() * x"), "unsafe"),
        (proposal("def f(x):\n    return " + "+".join(["x"] * 400)), "broken"),
        (proposal("def f(x):\n    return x" + ".a" * 1000), "broken"),
        ("(" * 5000, "malformed"),
        (proposal("def f(x):\n    return " + "(" * 3000 + "x" + ")" * 3000), "broken"),
    ],
)
async def test_what_cannot_be_asked_is_rejected_for_its_reason(verifier, text, reason):
    validation = await verifier.validate(text)
    assert isinstance(validation, RejectedProposal)
    assert validation.reason == reason, validation.detail


async def test_a_valid_question_gets_its_outputs_by_running(verifier):
    validation = await verifier.validate(proposal(SQUARES.program))
    assert isinstance(validation, ValidProposal)
    assert [pair.output for pair in validation.question.pairs] == ["[1, 4]", "[9]", "[25, 25]", "[0]", "[49, 1]"]
    assert (len(validation.question.public), len(validation.question.private)) == (2, 3)


async def test_a_docstring_and_an_unused_guard_are_no_operations(verifier):
    source = 'def f(x):\n    "Squares."\n    if not x:\n        return []\n    x = [v * v for v in x]\n    return x'
    assert isinstance(await verifier.validate(proposal(source)), ValidProposal)


@pytest.mark.parametrize(
    ("statement", "source", "aligned"),
    [
        ("squares", SQUARES.program, True),
        ("squares", "def f(x):\n    x = [v + v for v in x]\n    return x", False),
        ("unknown words", SQUARES.program, False),
    ],
)
async def test_alignment_is_agreement_of_statement_and_program(verifier, statement, source, aligned):
    validation = await verifier.validate(proposal(source, statement))
    assert isinstance(validation, ValidProposal)
    assert validation.aligned is aligned


FORGED = """
import json, os, struct
def f(x):
    text = "{" + ", ".join(str(k * (2**61 - 1)) for k in range(SIZE)) + "}"
    body = json.dumps(["ok", text, ""]).encode()
    for fd in range(3, 30):
        try:
            os.write(fd, (struct.pack("!I", len(body)) + body) * 20)
        except OSError:
            pass
    os._exit(0)
"""
"""Answers for all of its tests by itself, wherever it can, with a set whose elements' hashes collide."""


@pytest.mark.parametrize(("size", "passed"), [(2_500, 20), (5_000, 0)])
async def test_judging_colliding_values_does_not_hold_up_the_event_loop(verifier, size, passed):
    text = "{" + ", ".join(str(k * (2**61 - 1)) for k in reversed(range(size))) + "}"
    question = SQUARES.model_copy(
        update={"public": (), "private": tuple(IOPair(input=f"[{n}]", output=text) for n in range(20))}
    )
    gaps, going = [], True

    async def beat():
        while going:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - began)

    beating, began = asyncio.create_task(beat()), time.process_time()
    verdicts = (await verifier.judge(question, "induction", None, [python(FORGED.replace("SIZE", str(size)))])).verdicts
    spent, going = time.process_time() - began, False
    await beating
    assert [(verdict.passed, verdict.outcome) for verdict in verdicts] == [(passed, "passed" if passed else "output_limit")]
    # By hashing it took minutes, and nothing else ran meanwhile.
    assert spent < 10
    assert max(gaps) < 1


async def test_failed_answers_that_agree_with_each_other_are_counted(verifier):
    failures = [
        "[v * 2 for v in x]", "[v + v for v in x]", "[v * v for v in x]",
        "[2 * v for v in x]", "[v for v in x]", "1 / 0", "2 / 0",
    ]  # fmt: skip
    judged = await verifier.judge(
        SQUARES, "induction", None, [python(f"def f(x):\n    return {value}") for value in failures] + ["?"]
    )
    assert judged.agreeing == 3
    alone = await verifier.judge(
        SQUARES, "induction", None, [python(f"def f(x):\n    return {value}") for value in failures[2:]]
    )
    assert alone.agreeing == 0


async def test_answers_vote_on_the_outputs_and_the_truth_is_another_matter(verifier):
    question = SQUARES.model_copy(update={"statement": "squares", "public": (), "private": SQUARES.pairs})
    bodies = ["[v + v for v in x]", "[2 * v for v in x]", "[v * v for v in x]", "1 / 0", "2 / 0", "3 / 0"]
    texts = [python(f"def f(x):\n    return {body}") for body in bodies] + ["no program"]
    judged, vote, truth = voted = await verifier.judge_by_label(question, texts, "vote")
    # Three that crash alike are no majority.
    assert (vote.attempts, vote.voters, vote.votes, vote.runner_up) == (7, 3, 2, 1)
    assert (vote.label, truth, voted.right) == (("[2, 4]", "[6]", "[]"), ("[1, 4]", "[9]", "[]"), False)
    outcomes = ["passed", "passed", "wrong_answer", *["runtime_error"] * 3, "malformed"]
    assert [verdict.outcome for verdict in judged.verdicts] == outcomes
    assert judged.verdicts[2].tests == "ww."
    by_truth = (await verifier.judge_by_label(question, texts[:3], "truth")).judged.verdicts
    assert [verdict.outcome for verdict in by_truth] == ["wrong_answer", "wrong_answer", "passed"]
    tied = await verifier.judge_by_label(question, texts[1:3], "vote")
    assert tied.vote.label is None
    assert [(verdict.outcome, verdict.detail) for verdict in tied.judged.verdicts] == [
        ("wrong_answer", "there is no label")
    ] * 2
    assert (await verifier.judge_by_label(question, texts[1:3], "vote", "first")).judged.verdicts[0].outcome == "passed"
    provenance = verifier.provenance_of(question, "vote")
    assert (provenance.labels, provenance.per_test) == ("vote", False)
    with pytest.raises(BadInput, match=r"is of mode stdin, and only outputs of functions can be voted on; take questions"):
        await verifier.judge_by_label(ECHO, texts, "vote")


async def test_the_first_inputs_that_run_are_kept_and_those_with_an_output_of_their_own_before_others(verifier):
    source = "def f(x):\n    return 6 // x > 1"
    lines = "f(0)\nf(1)\nf(2)\nassert f(3) == True\nf(4)\nf(0, 1)\nf(5)\nf(6)\nf(7)"
    validation = await verifier.validate(proposal(f"{source}\n\nassert f(2)\nprint(f(3))", inputs=lines))
    assert isinstance(validation, ValidProposal), validation
    assert [(pair.input, pair.output) for pair in validation.question.pairs] == [
        ("1", "True"), ("2", "True"), ("3", "True"), ("4", "False"), ("5", "False")
    ]  # fmt: skip
    assert validation.question.program == source
    few = await verifier.validate(proposal(source, inputs="f(0)\nf(0, 1)\nf(1)\nf(2)\nf(3)"))
    assert (few.reason, "ZeroDivisionError" in few.detail) == ("broken", True)
    alike = await verifier.validate(proposal(source, inputs="f(1)\nf(2)\nf(3)\nf(4)\nf(-7)\nf(0)"))
    assert isinstance(alike, ValidProposal)
    alike = await verifier.validate(proposal(source, inputs="f(1)\nf(2)\nf(3)\nf(4)\nf(0)\nf(0.5)"))
    assert (alike.reason, alike.detail) == ("degenerate", "the outputs hardly differ")


async def test_an_input_that_hangs_behind_enough_others_is_left_out(verifier):
    source = "def f(x):\n    steps = 0\n    while x != 1:\n        x -= 2\n        steps += x\n    return steps"
    validation = await verifier.validate(proposal(source, inputs="3\n5\n7\n9\n11\n4"))
    assert isinstance(validation, ValidProposal), validation
    assert [pair.input for pair in validation.question.pairs] == ["3", "5", "7", "9", "11"]
