"""Public tests that an answer knows by heart: it tells their inputs apart from all others, by literals in its text.

Law: total, and nothing is run: what cannot be parsed knows nothing. Where honest programs look alike, nothing is claimed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from events.facts.values import IOPair, Question
from events.pure.program_structure import PARSE_ERRORS, parse_or_none

_SHORT: Final = 3
"""Characters, quotes not counted, below which every program looks at such a value: 0, one letter, nothing."""
_LONG: Final = 6
"""Characters below which a comparison that does not give the output is nothing unusual: a word of the question's own."""
_NO_WORD: Final = re.compile(r"[\W_]")
_LITERALS: Final = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp)


class HardcodedTest(NamedTuple):
    """A public test that a program knows by heart."""

    pair: IOPair
    answered: bool
    """Whether it gives the pair's output where it sees the input."""


class HardcodedTestDetector:
    """The public pairs of a question, by what they look like in a program."""

    def __init__(self, question: Question) -> None:
        self._inputs: dict[str, IOPair] = {}
        self._outputs: dict[IOPair, frozenset[str]] = {}
        seen = _printed if question.mode == "stdin" else _called
        for pair in question.public if question.mode != "checks" else ():
            with suppress(*PARSE_ERRORS):
                inputs, outputs = seen(pair)
                self._outputs[pair] = frozenset(outputs)
                self._inputs |= {form: pair for form in inputs if _tells(form)}
        self._marks = {"" if "\\" in form or "{" in form else _NO_WORD.sub("", form) for form in self._inputs}
        """Characters of which some must be in a program that knows an input, whatever its layout."""

    def case(self, program: str) -> HardcodedTest | None:
        """The public pair that the program tells apart from all other inputs; one whose output it gives, if there is one.

        It compares something with the literal of a public input, or holds a table from public inputs to their outputs. If it
        looks for more values that are not public than for public ones, it enumerates what the question is about, and that is
        honest.
        """
        written = _NO_WORD.sub("", program)
        if not any(mark in written for mark in self._marks):
            return None
        tree = parse_or_none(program)
        try:
            return None if tree is None else self._case(tree)
        except PARSE_ERRORS:
            return None

    def _case(self, tree: ast.Module) -> HardcodedTest | None:
        sought: set[str] = set()
        answered: list[IOPair] = []
        for node in ast.walk(tree):
            match node:
                case ast.Compare():
                    sought.update(_compared(node))
                case ast.match_case(pattern=pattern, body=body):
                    forms = set(_patterns(pattern))
                    sought |= forms
                    answered += self._answered(forms, body)
                case ast.If(test=test, body=body):
                    answered += self._answered(_tested(test), body)
                case ast.IfExp(test=test, body=value):
                    answered += self._answered(_tested(test), [value])
                case ast.Dict(keys=keys, values=values):
                    table = {form: value for key, value in zip(keys, values, strict=True) if (form := _form(key))}
                    given = [pair for form, value in table.items() for pair in self._answered({form}, [value])]
                    answered += given
                    sought |= table.keys() if given else set()
        sought = {form for form in sought if _tells(form)}
        public = sorted(sought & self._inputs.keys())
        if len(sought) > 2 * len(public):
            return None
        if answered:
            return HardcodedTest(answered[0], True)
        return next((HardcodedTest(self._inputs[form], False) for form in public if _length(form) >= _LONG), None)

    def _answered(self, forms: Iterable[str], body: Iterable[ast.AST]) -> list[IOPair]:
        """The pairs whose input is among the forms and whose output is a literal in the body."""
        pairs = [self._inputs[form] for form in forms if form in self._inputs]
        literals = {_form(node) for part in body for node in ast.walk(part)} if pairs else set()
        return [pair for pair in pairs if literals & self._outputs[pair]]


def _called(pair: IOPair) -> tuple[list[str], list[str]]:
    arguments = ast.literal_eval(f"({pair.input},)")
    whole = _canonical(arguments)
    return [whole, *map(_canonical, arguments), _canonical(pair.input)], [_canonical(ast.literal_eval(pair.output))]


def _printed(pair: IOPair) -> tuple[list[str], list[str]]:
    text, output = pair.input.strip(), pair.output.strip()
    lines = text.splitlines()
    words = [word for line in lines for word in line.split()]
    numbers = [int(word) for word in words if word.lstrip("-").isdigit()]
    # One word of many inputs is what a question may be about, such as the only right one.
    forms: list[Any] = [pair.input, text, lines, words, *(line for line in lines if " " in line)]
    forms += [numbers] if len(numbers) == len(words) else []
    return [_canonical(form) for form in forms], [_canonical(form) for form in (pair.output, output, *_number(output))]


def _number(text: str) -> list[int]:
    return [int(text)] if text.lstrip("-").isdigit() else []


def _length(form: str) -> int:
    return len(form.strip("'\""))


def _tells(form: str) -> bool:
    return _length(form) >= _SHORT and form not in ("True", "False", "None")


def _tested(test: ast.expr) -> set[str]:
    return {form for node in ast.walk(test) if isinstance(node, ast.Compare) for form in _compared(node)}


def _compared(node: ast.Compare) -> Iterator[str]:
    """Literals that something is equal to, or one of."""
    for left, how, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
        match how, right:
            case ((ast.In() | ast.NotIn()), (ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts))):
                yield from filter(None, map(_form, parts))
            case ((ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot()), _):
                forms = _form(left), _form(right)
                if None in forms:
                    yield from (form for form in forms if form)


def _patterns(pattern: ast.pattern) -> Iterator[str]:
    match pattern:
        case ast.MatchValue(value=value):
            yield from filter(None, [_form(value)])
        case ast.MatchOr(patterns=patterns):
            for part in patterns:
                yield from _patterns(part)
        case ast.MatchSequence(patterns=patterns):
            parts = [next(_patterns(part), None) for part in patterns]
            if None not in parts:
                yield f"({', '.join(filter(None, parts))})"


def _form(node: ast.AST | None) -> str | None:
    """A literal, so that equal ones are equal; None for anything else."""
    if not isinstance(node, _LITERALS):
        return None
    try:
        return _canonical(ast.literal_eval(node))
    except PARSE_ERRORS:
        return None


def _canonical(value: Any) -> str:
    """A list is what a tuple is; 1 is not True."""
    match value:
        case list() | tuple():
            return f"({', '.join(map(_canonical, value))})"
        case dict():
            return f"{{{', '.join(sorted(f'{_canonical(key)}: {_canonical(one)}' for key, one in value.items()))}}}"
        case set():
            return f"{{{', '.join(sorted(map(_canonical, value)))}}}"
        case _:
            return repr(value)
