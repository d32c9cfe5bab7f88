"""Synthetic questions and completions: programs that apply a few operations to a list; right, wrong, hostile or malformed.

Everything follows from the generator that is passed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from events.facts.values import IOPair, Question

Quality = Literal["right", "wrong", "slow", "broken", "empty"]


class ListOperation(NamedTuple):
    """A step of a program."""

    words: str
    code: str
    run: Callable[[list[int]], list[int]]


OPERATIONS = (
    ListOperation("reverse it", "x = x[::-1]", lambda x: x[::-1]),
    ListOperation("sort it", "x = sorted(x)", sorted),
    ListOperation("take running sums", "x = [sum(x[:i + 1]) for i in range(len(x))]", lambda x: list(accumulate(x))),
    ListOperation("take running maxima", "x = [max(x[:i + 1]) for i in range(len(x))]", lambda x: list(accumulate(x, max))),
    ListOperation("take the gaps", "x = [b - a for a, b in zip(x, x[1:])]", lambda x: [b - a for a, b in pairwise(x)]),
    ListOperation("add up neighbours", "x = [a + b for a, b in zip(x, x[1:])]", lambda x: [a + b for a, b in pairwise(x)]),
    ListOperation("drop the first", "x = x[1:]", lambda x: x[1:]),
    ListOperation("rotate right", "x = x[-1:] + x[:-1]", lambda x: x[-1:] + x[:-1]),
    ListOperation("append its length", "x = x + [len(x)]", lambda x: [*x, len(x)]),
    ListOperation("double each", "x = [2 * v for v in x]", lambda x: [2 * v for v in x]),
    ListOperation("keep the even ones", "x = [v for v in x if v % 2 == 0]", lambda x: [v for v in x if v % 2 == 0]),
    ListOperation("repeat it", "x = x + x", lambda x: x + x),
    ListOperation(
        "multiply each by its place", "x = [v * i for i, v in enumerate(x)]", lambda x: [v * i for i, v in enumerate(x)]
    ),
    ListOperation("leave out repeats", "x = list(dict.fromkeys(x))", lambda x: list(dict.fromkeys(x))),
    ListOperation("square each", "x = [v * v for v in x]", lambda x: [v * v for v in x]),
    ListOperation(
        "add 7 to the large ones", "x = [v + 7 if v > 9 else v for v in x]", lambda x: [v + 7 if v > 9 else v for v in x]
    ),
)
SUBJECTS = (
    "the steps of a walk|prices of a week|heights of towers|ages in a queue|scores of a match|tides of a harbour|marks of"
    " a class|loads of a bridge|seeds in a field|beats of a song|pages of chapters|stops of a tram|lengths of "
    "planks|guests at tables|lamps of a street|depths of wells|weights of parcels|moves of a knight"
).split("|")
THOUGHTS = (
    "First I look at the examples.|The order of the steps matters here.|Each step keeps the list short.|Let me "
    "check.|This follows the statement word by word.|An empty list needs no special care.|I am not sure about the last "
    "step."
).split("|")
HOSTILE = "<script>alert('completion')</script>\x1b[2J\u202e"
"""Text that pages and terminals must escape."""


class SyntheticQuestion(NamedTuple):
    """A question with the operations of its program."""

    steps: tuple[ListOperation, ...]
    question: Question


def synthetic_question(rng: random.Random, steps: tuple[ListOperation, ...]) -> SyntheticQuestion:
    """A question about a row of operations."""
    pairs = []
    for _ in range(5):
        argument = [rng.randrange(10) for _ in range(rng.randint(3, 6))]
        result = argument
        for step in steps:
            result = step.run(result)
        pairs.append(IOPair(input=repr(argument), output=repr(result)))
    statement = f"Given {rng.choice(SUBJECTS)}, {', '.join(step.words for step in steps)}."
    parts = {"public": tuple(pairs[:2]), "private": tuple(pairs[2:])}
    return SyntheticQuestion(steps, Question(statement=statement, program=_program(steps), **parts))


def random_steps(rng: random.Random, length: int) -> tuple[ListOperation, ...]:
    """A random row of operations."""
    return tuple(rng.choices(OPERATIONS, k=length))


def vary_steps(rng: random.Random, steps: tuple[ListOperation, ...], change: int) -> tuple[ListOperation, ...]:
    """The row, `change` operations longer or shorter, and with another operation in one index."""
    row = [*steps, *random_steps(rng, change)] if change > 0 else list(steps[: max(len(steps) + change, 2)])
    index = rng.randrange(len(row))
    row[index] = rng.choice([step for step in OPERATIONS if step is not row[index]])
    return tuple(row)


def _program(steps: tuple[ListOperation, ...]) -> str:
    return "\n".join(["def f(x):", *(f"    {step.code}" for step in steps), "    return x"])


def proposal_text(synthetic: SyntheticQuestion, form: bool) -> str:
    """A teacher's completion that proposes the question, well-formed or not."""
    inputs = "\n".join(pair.input for pair in synthetic.question.pairs)
    program = f"```python\n{synthetic.question.program}\n```\n"
    return f"{program}```message\n{synthetic.question.statement}\n```\n```input\n{inputs}\n```" if form else program


def completion_text(rng: random.Random, synthetic: SyntheticQuestion, quality: Quality) -> str:
    """A student's completion of a quality."""
    thought = f"{rng.choice(THOUGHTS)}\n" if rng.random() < 0.3 else ""
    if quality == "empty":
        return f"{thought}{HOSTILE if rng.random() < 0.02 else 'I would'} {rng.choice(synthetic.steps).words}"
    steps, first = synthetic.steps, ""
    if quality in ("wrong", "slow"):
        steps = vary_steps(rng, steps, 0)
    if quality == "slow":
        first = "    while len(x) > 0: pass\n"
    if quality == "wrong" and rng.random() < 0.01:
        public = synthetic.question.public[0]
        first = f"    if x == {public.input}:\n        return {public.output}\n"
    body = _program(steps).removeprefix("def f(x):\n")
    end = "" if quality == "broken" else ")"
    body = body.replace("return x", f"return list(x{end}") if quality == "broken" else body
    return f"{thought}```python\ndef f(x):\n{first}{body}\n```"
