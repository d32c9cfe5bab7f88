"""HumanEval and HumanEval+ as questions.

Records as in openai/human-eval (`check(candidate)`), as HumanEval+ in the same layout, or as EvalPlus's own (`base_input`,
`plus_input`). The statement is the prompt, the reference program is the prompt with its canonical solution, and the context is
what stands before the function in the prompt. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
from typing import Literal

from events.facts.values import IOPair, Question
from roles.judging.syntax_tree import parse_source
from roles.questions.asserts import parse_assertion
from roles.questions.evalplus import MAX_TEST_CHARS, EvalPlusTest, Oracle, parse_test
from roles.questions.fields import FieldError, Record

ORACLES: dict[str, Oracle] = {"find_zero": "root"}
"""Functions whose results EvalPlus does not compare by value."""


def question_of(record: Record) -> Question:
    """One record as a question; FieldError if a field is missing, of the wrong type, or holds no test."""
    prompt, entry = record.text("prompt"), record.text("entry_point")
    oracle = ORACLES.get(entry, "equal")
    program = prompt + record.text("canonical_solution")
    if "base_input" in record.values:
        inputs = record.items("base_input") + record.items("plus_input")
        if not inputs or not all(isinstance(arguments, list) for arguments in inputs):
            raise FieldError("base_input", "expected lists of arguments")
        test = EvalPlusTest(inputs, None, program, entry, record.number("atol"), oracle)
        mode, pairs = test.pairs()
    elif (plus := parse_test(record.text("test"), entry, oracle)) is not None:
        mode, pairs = plus.pairs()
    else:
        mode, pairs = _checked(record.text("test"))
    return Question(
        statement=prompt.strip(), program=program, entry=entry, mode=mode, private=pairs, context=_context(prompt, entry)
    )


def _context(prompt: str, entry: str) -> str:
    """Imports, helpers and constants that stand before the function in its prompt, as they are written."""
    *_, begins = [0, *(match.start() for match in re.finditer(rf"^def {re.escape(entry)}\b", prompt, re.MULTILINE))]
    tree = parse_source(prompt[:begins])
    return prompt[:begins].strip() if tree is not None and tree.body else ""


def _checked(source: str) -> tuple[Literal["function", "checks"], tuple[IOPair, ...]]:
    """Mode and test cases of `check(candidate)`: literal pairs if possible, else a check for each assertion, else one check."""
    tree = parse_source(source, MAX_TEST_CHARS)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"] if tree else []
    if tree is None or len(functions) != 1:
        raise FieldError("test", "expected Python code with one function check(candidate)")
    body = [part for part in functions[0].body if not _says_nothing(part)]
    pairs = [parse_assertion(part, "candidate") for part in body]
    if pairs and all(pairs):
        return "function", tuple(pair for pair in pairs if pair)
    rest = [node for node in tree.body if node is not functions[0]]
    if not all(isinstance(part, ast.Assert) for part in body):
        return "checks", (IOPair(input=f"{source.strip()}\n\ncheck(candidate)\n", output=""),)
    checks = [ast.unparse(ast.Module([*rest, part], [])) for part in body]
    return "checks", tuple(IOPair(input=check, output="") for check in dict.fromkeys(checks))


def _says_nothing(part: ast.stmt) -> bool:
    """Whether a statement is a docstring, `pass`, or `assert True`."""
    match part:
        case ast.Assert(test=ast.Constant(value=True)) | ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
    return False
