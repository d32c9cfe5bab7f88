from __future__ import annotations

import ast

import pytest

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question
from roles.judging.program_operations import operations, replace_operation
from roles.judging.safety import unsafe_reason
from roles.judging.similarity import NgramEmbedding, Novelty, embedding
from roles.judging.syntax_tree import parse_source


def question(statement, program="def f(x):\n    return x"):
    return Question(statement=statement, program=program, private=(IOPair(input="1", output="1"),))


def test_an_empty_buffer_finds_everything_new():
    assert Novelty(NgramEmbedding()).similarity(question("anything")) == 0.0


def test_the_same_question_is_not_new():
    novelty = Novelty(NgramEmbedding())
    novelty.add(question("sort the list, then reverse it"), question("count the words"))
    assert novelty.similarity(question("sort the list, then reverse it")) == pytest.approx(1.0)


def test_another_question_is_new_although_it_shares_words():
    novelty = Novelty(NgramEmbedding())
    novelty.add(question("sort the list, then reverse it", "def f(x):\n    return sorted(x)[::-1]"))
    other = question("sort the words, then join them", "def f(x):\n    return ''.join(sorted(x.split()))")
    assert 0.1 < novelty.similarity(other) < 0.95


def test_a_program_that_was_accepted_is_not_new_whatever_its_statement_names_and_comments_say():
    novelty = Novelty(NgramEmbedding())
    novelty.add(question("the n-th triangular number", "def f(n):\n    return (n * (n + 1)) // 2"))
    padded = question(
        "the n-th triangular number. Then solve the whole problem with a function of a few lines that returns the result",
        "def f(number):\n    # Gauss\n    return number * (number + 1) // 2",
    )
    assert novelty.similarity(padded) <= 0.95
    assert not novelty.is_novel(padded, 0.95)
    assert not novelty.copy().is_novel(padded, 0.95)
    assert novelty.empty().is_novel(padded, 0.95)
    assert novelty.is_novel(question("the n-th square number", "def f(n):\n    return n * n"), 0.95)


def test_an_unknown_embedding_is_refused():
    with pytest.raises(BadInput, match="no embedding 'vibes'"):
        embedding("vibes")


@pytest.mark.parametrize(
    "source",
    [
        "import os", "from subprocess import run", "import numpy.random, sys",
        "eval('1')", "x.__subclasses__()", "def f():\n    global g",
    ],
)  # fmt: skip
def test_unsafe_programs_are_objected_to(source):
    assert unsafe_reason(parse_source(source))


@pytest.mark.parametrize(
    "source", ["import math\ndef f(x):\n    return math.sqrt(x)", "from collections import Counter", "x = 1"]
)
def test_harmless_programs_are_not(source):
    assert unsafe_reason(parse_source(source)) is None


@pytest.mark.parametrize("source", ["def f(", "\0", "(" * 10_000, "x" * 30_000, "1" * 5000 + "a"])
def test_what_does_not_parse_is_none_and_never_raises(source):
    assert parse_source(source) is None


def test_each_statement_is_left_out_once_and_the_return_stays():
    tree = parse_source("import math\ndef f(x):\n    x = x + 1\n    x = x * 2\n    return x")
    variants = [replace_operation(tree, operation, ast.Pass()) for operation in operations(tree, "f")]
    assert [("x + 1" in v, "x * 2" in v, "return x" in v) for v in variants] == [(False, True, True), (True, False, True)]
