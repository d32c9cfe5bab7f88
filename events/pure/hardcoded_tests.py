"""Detects answers that hard-code the public tests: their text compares something with the literals of public inputs.

Guarantees: never raises, and runs nothing; a program that cannot be parsed hard-codes nothing. Where honest programs look the
same, nothing is claimed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from events.facts.values import IOPair, Question
from events.pure.program_structure import PARSE_ERRORS, parse_or_none

_MIN_LENGTH: Final = 3
"""Characters, without quotes, from which a literal counts; every program compares with 0, one letter or an empty text."""
_UNUSUAL_LENGTH: Final = 6
"""Characters from which a comparison counts that does not give the output; below, it may be a word of the question."""
_NON_WORD: Final = re.compile(r"[\W_]")
_LITERALS: Final = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp)


class HardcodedTest(NamedTuple):
    """A public test that a program hard-codes."""

    pair: IOPair
    answered: bool
    """Whether it gives the pair's output where it recognises the input."""


class HardcodedTestDetector:
    """Finds the public pairs of a question in programs, by the forms that their literals have there."""

    def __init__(self, question: Question) -> None:
        self._inputs: dict[str, IOPair] = {}
        self._outputs: dict[IOPair, frozenset[str]] = {}
        forms_of = _stdin_forms if question.mode == "stdin" else _call_forms
        for pair in question.public if question.mode != "checks" else ():
            with suppress(*PARSE_ERRORS):
                inputs, outputs = forms_of(pair)
                self._outputs[pair] = frozenset(outputs)
                self._inputs |= {form: pair for form in inputs if _is_telling(form)}
        # Escapes and dicts can be written in several ways, so such a form rules no program out.
        self._marks = {"" if "\\" in form or "{" in form else _NON_WORD.sub("", form) for form in self._inputs}
        """Texts of which one must be in a program that hard-codes an input, whatever its layout."""

    def find(self, program: str) -> HardcodedTest | None:
        """The public pair that the program hard-codes; one whose output it gives, if there is one; None if it hard-codes none.

        It compares something with the literal of a public input, or holds a table from public inputs to their outputs. A
        program that compares with more other values than public ones enumerates what the question is about, which is honest.
        """
        text = _NON_WORD.sub("", program)
        if not any(mark in text for mark in self._marks):
            return None
        tree = parse_or_none(program)
        try:
            return None if tree is None else self._find(tree)
        except PARSE_ERRORS:
            return None

    def _find(self, tree: ast.Module) -> HardcodedTest | None:
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
                    pairs = [pair for form, value in table.items() for pair in self._answered({form}, [value])]
                    answered += pairs
                    sought |= table.keys() if pairs else set()
        sought = {form for form in sought if _is_telling(form)}
        public = sorted(sought & self._inputs.keys())
        # More other values than public ones: an enumeration of what the question is about.
        if len(sought) > 2 * len(public):
            return None
        if answered:
            return HardcodedTest(answered[0], True)
        return next((HardcodedTest(self._inputs[form], False) for form in public if _length(form) >= _UNUSUAL_LENGTH), None)

    def _answered(self, forms: Iterable[str], body: Iterable[ast.AST]) -> list[IOPair]:
        """The pairs whose input has one of the forms and whose output is a literal in the body."""
        pairs = [self._inputs[form] for form in forms if form in self._inputs]
        literals = {_form(node) for part in body for node in ast.walk(part)} if pairs else set()
        return [pair for pair in pairs if literals & self._outputs[pair]]


def _call_forms(pair: IOPair) -> tuple[list[str], list[str]]:
    arguments = ast.literal_eval(f"({pair.input},)")
    whole = _canonical(arguments)
    return [whole, *map(_canonical, arguments), _canonical(pair.input)], [_canonical(ast.literal_eval(pair.output))]


def _stdin_forms(pair: IOPair) -> tuple[list[str], list[str]]:
    text, output = pair.input.strip(), pair.output.strip()
    lines = text.splitlines()
    words = [word for line in lines for word in line.split()]
    numbers = [int(word) for word in words if word.lstrip("-").isdigit()]
    # Not single words: a question may be about one word of many inputs.
    forms: list[Any] = [pair.input, text, lines, words, *(line for line in lines if " " in line)]
    forms += [numbers] if len(numbers) == len(words) else []
    return [_canonical(form) for form in forms], [_canonical(form) for form in (pair.output, output, *_number(output))]


def _number(text: str) -> list[int]:
    return [int(text)] if text.lstrip("-").isdigit() else []


def _length(form: str) -> int:
    return len(form.strip("'\""))


def _is_telling(form: str) -> bool:
    return _length(form) >= _MIN_LENGTH and form not in ("True", "False", "None")


def _tested(test: ast.expr) -> set[str]:
    return {form for node in ast.walk(test) if isinstance(node, ast.Compare) for form in _compared(node)}


def _compared(node: ast.Compare) -> Iterator[str]:
    """Forms of literals that something is compared with, or looked up in."""
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
    """The form of a literal, equal for equal ones; None for anything else."""
    if not isinstance(node, _LITERALS):
        return None
    try:
        return _canonical(ast.literal_eval(node))
    except PARSE_ERRORS:
        return None


def _canonical(value: Any) -> str:
    """Text of a value in which a list is as a tuple, and 1 is not True."""
    match value:
        case list() | tuple():
            return f"({', '.join(map(_canonical, value))})"
        case dict():
            return f"{{{', '.join(sorted(f'{_canonical(key)}: {_canonical(inner)}' for key, inner in value.items()))}}}"
        case set():
            return f"{{{', '.join(sorted(map(_canonical, value)))}}}"
        case _:
            return repr(value)
