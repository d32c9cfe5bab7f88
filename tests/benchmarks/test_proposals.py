"""The benchmark of proposals, on a scripted teacher and the real sandbox: every outcome is counted where it belongs."""

import random

import pytest

from benchmarks.proposals import attempt, propose, report
from events.facts.values import Question, Sampling
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.verifier import Verifier
from tests.support.scripted_model import ScriptedModel

pytestmark = pytest.mark.docker

DOUBLE = "```message\nDouble it.\n```\n```python\ndef f(x):\n    return 2 * x\n```\n```input\nf(1)\nf(2)\nf(3)\nf(4)\nf(5)\n```"
PROPOSALS = [DOUBLE, DOUBLE, DOUBLE.replace("```input", "```no"), DOUBLE.replace("2 * x", "y")]
ANSWERS = [f"```python\ndef f(x):\n    return {factor} * x\n```" for factor in (2, 3, 2, 3)]


async def test_outcomes_are_counted_by_axis_and_reason(runner) -> None:
    questions: list[Question] = random.Random(0).sample(list(load_questions("pocket", "train").questions), 4)
    verifier, prompts, sampling = Verifier(runner, pairs=5, public_pairs=2), Prompts.named("pocket"), Sampling()
    replies = iter(PROPOSALS)
    teacher = ScriptedModel(lambda prompt, seed, index: next(replies))
    outcomes = await propose(teacher, verifier, prompts, questions, "easy", 0, sampling)
    assert [outcome.reason for outcome in outcomes] == ["valid", "not_novel", "malformed", "broken"]
    student = ScriptedModel(lambda prompt, seed, index: ANSWERS[index])
    tried = await attempt(student, verifier, prompts, outcomes, "easy", 4, sampling)
    assert [(outcome.reason, outcome.successes) for outcome in tried[:2]] == [("in_band", 2), ("not_novel", None)]
    lines = report("easy", tried, 4)
    assert lines[2:5] == [
        "| easy | io | 2 | 1 | 1 | 1 | 1 |",
        "| easy | function | 2 | 1 | 0 | 0 | 0 |",
        "| easy | both | 4 | 2 | 1 | 1 | 1 |",
    ]
    assert "   1 malformed: no input block" in lines
