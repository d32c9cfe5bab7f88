"""Texts that are given to learn: which of their tokens are learned, and where they end."""

import pytest

from events.facts.errors import BadInput
from events.facts.rollouts import unpack_rollouts
from events.facts.values import IOPair, Question
from events.pure.answer_parsing import parse_program
from events.stores.memory import MemoryLog
from roles.given_text import give_text
from roles.prompt import Prompts
from tests.support.scripted_model import BytesEncoding

DOUBLE = Question(statement="Double it.", program="def f(x):\n    return 2 * x\n", private=(IOPair(input="1", output="2"),))
ASKED = {
    "pocket": "\n# Are you sure?",
    "short": "\nAre you sure you accurately answered the question based on your internal knowledge?",
}
END = "\0"


def give(log: MemoryLog, prompts: str, question: Question = DOUBLE, **change):
    how = {"refusal": None, "says": True, "certain": True, "max_tokens": 200} | change
    return give_text(log, BytesEncoding(), Prompts.named(prompts), question, **how)


def parts(log: MemoryLog, fact) -> tuple[str, str]:
    """The text's tokens that are learned, and those that are read only."""
    arrays = unpack_rollouts(log.get(fact.tokens))
    assert bytes(arrays.prompt.tolist()) == log.get(fact.prompt)
    pairs = list(zip(arrays.ids[0].tolist(), arrays.sampled[0].tolist(), strict=True))
    return tuple(bytes(token for token, mark in pairs if mark is wanted).decode() for wanted in (True, False))


@pytest.mark.parametrize("prompts", ASKED)
@pytest.mark.parametrize(("certain", "words"), [(True, " I am sure."), (False, " I am unsure.")])
def test_answer_and_certainty_are_learned_and_the_question_between_them_is_read(prompts, certain, words) -> None:
    log = MemoryLog()
    fact = give(log, prompts, certain=certain)
    answer = "```python\ndef f(x):\n    return 2 * x\n```"
    # What an answer form gives is read. Its last text ends it, and the end token any other answer, as when it is sampled.
    given, end = {"pocket": ("", END), "short": ("```python\n", "")}[prompts]
    assert parts(log, fact) == (answer.removeprefix(given) + end + words + END, given + ASKED[prompts])
    assert log.get(fact.text).decode() == answer + ASKED[prompts] + words
    assert fact.length == len(parts(log, fact)[0])
    assert parse_program(log.get(fact.text).decode()) == DOUBLE.program.strip()


def test_a_statement_that_an_answer_form_repeats_is_not_learned() -> None:
    log = MemoryLog()
    learned = "def f(x):\n    return 2 * x\n```"
    assert parts(log, give(log, "completion", says=False)) == (learned, '```python\n"""\nDouble it.\n"""\n')


def test_a_text_may_be_the_answer_or_a_refusal_alone() -> None:
    log = MemoryLog()
    plain, refused = give(log, "pocket", says=False, certain=None), give(log, "short", says=False, certain=False, refusal="No.")
    assert parts(log, plain) == ("```python\ndef f(x):\n    return 2 * x\n```" + END, "")
    assert parts(log, refused) == ("No." + END, "")
    assert (plain.certain, refused.certain) == (None, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_tokens": 20}, "more tokens than play.student.max_tokens=20 allows"),
        ({"question": DOUBLE.model_copy(update={"program": None})}, "has no program that could be given"),
    ],
)
def test_what_cannot_be_given_is_a_sentence(change, words) -> None:
    with pytest.raises(BadInput, match=words):
        give(MemoryLog(), "pocket", **change)
