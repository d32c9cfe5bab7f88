"""EvalPlus's tests: many inputs, compared with known values or with the outputs of a reference program.

If all values are known and none is compared with a tolerance, they become test cases of mode `function`, whose values stay
outside the sandbox; otherwise checks: code that compares as EvalPlus does, without numpy. Nothing is executed here.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from events.facts.values import IOPair
from events.pure.literal import NotLiteral, TooLarge, write
from roles.judging.syntax_tree import parse_source
from roles.questions.asserts import literal_pair
from roles.questions.fields import FieldError

MAX_TEST_CHARS = 4 << 20
"""Largest test or check, in characters."""
MAX_CHECKS = 20
"""Most checks of one question; inputs are dealt out to them in order."""

_CHECK = """\
inf, nan = float("inf"), float("nan")


def _close(got, expected, tolerance):
    if isinstance(expected, (list, tuple)):
        alike = type(got) is type(expected) and len(got) == len(expected)
        return alike and all(_close(one, two, tolerance) for one, two in zip(got, expected))
    if got == expected:
        return True
    if not all(isinstance(value, (int, float, complex)) for value in (got, expected)):
        return False
    return abs(got - expected) <= tolerance + 1e-7 * abs(expected)


def _floats(value):
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _agrees(got, expected, arguments, tolerance):
    {oracle}
    tolerance = tolerance or (1e-6 if _floats(expected) else 0)
    return _close(got, expected, tolerance) if tolerance else got == expected

"""
_KNOWN = """
for _arguments, _expected in zip({arguments}, {expected}):
    assert _agrees(candidate(*_arguments), _expected, _arguments, {tolerance})
"""
_REFERENCE = """
import copy

_space = {{}}
exec({reference!r}, _space)
for _arguments in {arguments}:
    _expected = _space[{entry!r}](*copy.deepcopy(_arguments))
    assert _agrees(candidate(*copy.deepcopy(_arguments)), _expected, _arguments, {tolerance})
"""

Oracle = Literal["equal", "set", "some", "root", "padded", "upright"]
"""How a result is judged. `equal`: by value; `set`: as sets; `some`: by whether there is one; `root`: as a polynomial's root.
Or by value, with a second reading of the statement that EvalPlus lets pass: `padded`, the shorter number filled up with zeros;
`upright`, the height of a pyramid instead of its slant."""
_ORACLES: dict[Oracle, str] = {
    "equal": "pass",
    "padded": """one, two = map(str, arguments)
    size = max(len(one), len(two))
    if got == sum(abs(int(a) - int(b)) for a, b in zip(one.zfill(size), two.zfill(size))):
        return True""",
    "upright": """edge, height = arguments
    if got == round(edge * edge + 2 * edge * ((edge / 2) ** 2 + height * height) ** 0.5):
        return True""",
    "set": "return set(got) == set(expected)",
    "some": """got, expected = (value if isinstance(value, bool) else value is not None for value in (got, expected))
    return got == expected""",
    "root": "return abs(sum(factor * got**power for power, factor in enumerate(arguments[0]))) <= tolerance",
}


@dataclass(frozen=True)
class EvalPlusTest:
    """The tests of a question: inputs, and expected values or a reference program."""

    __test__ = False

    arguments: Sequence[Sequence[Any]]
    """One list of arguments a call."""
    expected: Sequence[Any] | None
    """The expected value of each call; None where the reference program gives it."""
    reference: str
    """Source of a module whose function `entry` is right; empty where `expected` is known."""
    entry: str
    tolerance: float
    """Absolute; 0 means 1e-6 for floats and lists of floats, and equality for all else."""
    oracle: Oracle = "equal"

    def pairs(self) -> tuple[Literal["function", "checks"], tuple[IOPair, ...]]:
        """The test in the form that keeps the most outside the sandbox; FieldError if it is too large."""
        if self.expected is not None and self.oracle == "equal" and not self.tolerance and not any(map(_floats, self.expected)):
            pairs = [literal_pair(list(inputs), value) for inputs, value in zip(self.arguments, self.expected, strict=True)]
            if all(pairs):
                return "function", tuple(dict.fromkeys(each for each in pairs if each))
        size = -(-len(self.arguments) // MAX_CHECKS)
        return "checks", tuple(self._check(start, start + size) for start in range(0, len(self.arguments), size))

    def _check(self, start: int, end: int) -> IOPair:
        head = _CHECK.format(oracle=_ORACLES[self.oracle])
        arguments = _written(self.arguments[start:end])
        if self.expected is None:
            text = _REFERENCE.format(
                reference=self.reference, entry=self.entry, arguments=arguments, tolerance=repr(self.tolerance)
            )
        else:
            text = _KNOWN.format(
                arguments=arguments, expected=_written(self.expected[start:end]), tolerance=repr(self.tolerance)
            )
        return IOPair(input=head + text, output="")


def _floats(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _written(values: Sequence[Any]) -> str:
    try:
        return write(list(values), MAX_TEST_CHARS)
    except (NotLiteral, TooLarge) as error:
        raise FieldError("test", f"its values cannot be written as literals ({error})") from error


def parse_test(source: str, entry: str, oracle: Oracle) -> EvalPlusTest | None:
    """Parse a test in the layout of HumanEval+ and MBPP+ for the harnesses of HumanEval and MBPP; None for any other layout.

    The source assigns `inputs` and `results`, and calls `assertion(candidate(*inp), exp, tolerance)` for each; without
    results, a function `ref_func` gives them. One test compares a polynomial's root and, as published, fails on every answer:
    its inputs and tolerance are taken, and EvalPlus's own oracle judges.
    """
    tree = parse_source(source, MAX_TEST_CHARS)
    if tree is None:
        return None
    inside = [part for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check" for part in node.body]
    assigned: dict[str, Any] = {}
    compared: ast.Call | None = None
    for node in [*tree.body, *inside]:
        match node:
            case ast.Assign(targets=[ast.Name(id="inputs" | "results" as name)], value=value):
                try:
                    assigned[name] = ast.literal_eval(value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    return None
            case ast.For(body=[ast.Expr(value=ast.Call(func=ast.Name(id="assertion")) as call)]):
                compared = call
            case ast.For(
                body=[ast.Assert(test=ast.Compare(ops=[ast.LtE()], comparators=[ast.Constant(value=float() as limit)]))]
            ):
                if oracle == "root" and "inputs" in assigned:
                    return EvalPlusTest(assigned["inputs"], assigned.get("results"), "", entry, limit, oracle)
    return _test(tree, assigned, compared, entry, oracle)


def _test(
    tree: ast.Module, assigned: dict[str, Any], compared: ast.Call | None, entry: str, oracle: Oracle
) -> EvalPlusTest | None:
    arguments = assigned.get("inputs")
    if not isinstance(arguments, list) or not all(isinstance(each, (list, tuple)) for each in arguments) or not arguments:
        return None
    match compared:
        case ast.Call(args=[_, ast.Name(id="exp"), ast.Constant(value=int() | float() as tolerance)]):
            results = assigned.get("results")
            if isinstance(results, list) and len(results) == len(arguments):
                return EvalPlusTest(arguments, results, "", entry, tolerance, oracle)
        case ast.Call(args=[_, ast.Call(func=ast.Name(id="ref_func")), ast.Constant(value=int() | float() as tolerance)]):
            nodes = [node for node in tree.body if getattr(node, "name", "") not in ("assertion", "is_floats", "check")]
            nodes = [node for node in nodes if not (isinstance(node, ast.Import) and node.names[0].name == "numpy")]
            return EvalPlusTest(arguments, None, ast.unparse(ast.Module(nodes, [])), "ref_func", tolerance, oracle)
    return None
