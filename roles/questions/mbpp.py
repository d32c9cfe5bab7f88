"""MBPP, its sanitised part, and MBPP+ as questions.

Records as in google-research's mbpp.jsonl and sanitized-mbpp.json, and as EvalPlus's MBPP+ in both its layouts. The statement
is the text with its assertions, which tell the function's name. Nothing is executed.
"""

from __future__ import annotations

import ast
from typing import Any

from events.facts.values import IOPair, Question
from roles.judging.syntax_tree import parse_source
from roles.questions.asserts import parse_assertion
from roles.questions.evalplus import EvalPlusTest, Oracle, parse_test
from roles.questions.fields import FieldError, Record

SPLITS = {"test": (11, 510), "train": (601, 974), "validation": (511, 600), "prompt": (1, 10), "all": (1, 974)}
"""First and last task number of each split."""
SETS = "similar_elements find_char_long common_in_nested_lists extract_singly larg_nnum intersection_array find_dissimilar Diff"
ORACLES: dict[str, Oracle] = {
    **dict.fromkeys(SETS.split(), "set"),
    **dict.fromkeys(["check_str", "text_match_three", "text_starta_endb"], "some"),
    "digit_distance_nums": "padded",
    "surface_Area": "upright",
}
"""Functions whose results EvalPlus does not compare by value alone."""


def question_of(record: Record) -> Question:
    """One record as a question; FieldError if a field is missing, of the wrong type, or holds no test."""
    return _plus(record) if "plus_input" in record.values else _original(record)


def number_of(record: Record) -> int:
    """The number of a record's task, 2 for `Mbpp/2`; FieldError if it has none."""
    value = record.values.get("task_id")
    text = str(value).removeprefix("Mbpp/")
    if isinstance(value, bool) or not text.isdecimal():
        raise FieldError("task_id", "expected a number such as 2, or a text such as Mbpp/2")
    return int(text)


def _original(record: Record) -> Question:
    text = record.text("text") if "text" in record.values else record.text("prompt")
    program = record.text("code").replace("\r\n", "\n")
    imports, setup = "\n".join(record.texts("test_imports", [])), record.text("test_setup_code", "").replace("\r\n", "\n")
    # Set-up that only imports and defines goes before the answer; set-up that uses the answer's classes goes behind it.
    context = "\n".join(part for part in (imports, setup if _defines(setup) else "") if part)
    asserts = record.texts("test_list")
    statements = [_parsed(text, "test_list") for text in asserts]
    entry = _called(statements, program)
    statement = f"{text.strip()}\nYour code should pass these tests:\n" + "\n".join(asserts)
    if "test" in record.values and (test := parse_test(record.text("test"), entry, ORACLES.get(entry, "equal"))) is not None:
        mode, pairs = test.pairs()
        return Question(statement=statement, program=program, entry=entry, mode=mode, private=pairs, context=context)
    stated = [parse_assertion(node, entry) for node in statements]
    if all(stated):
        private = tuple(pair for pair in stated if pair)
        return Question(statement=statement, program=program, entry=entry, private=private, context=context)
    head = "\n".join(part for part in (setup, imports) if part)
    checks = [f"{head}\n{entry} = candidate\n{assertion.strip()}\n".lstrip() for assertion in asserts]
    private = tuple(IOPair(input=check, output="") for check in dict.fromkeys(checks))
    return Question(statement=statement, program=program, entry=entry, mode="checks", private=private, context=context)


def _defines(setup: str) -> bool:
    """Whether code only imports and defines, so that it can stand before an answer."""
    tree = parse_source(setup)
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return tree is not None and all(isinstance(node, kinds) for node in tree.body)


def _plus(record: Record) -> Question:
    """A record of MBPP+ as EvalPlus's own tools read it."""
    program, entry = record.text("canonical_solution"), record.text("entry_point")
    statement = record.text("prompt").strip().removeprefix('"""').removesuffix('"""').strip()
    # One record has {} for none.
    inputs = record.items("base_input") + (record.items("plus_input") if record.values["plus_input"] != {} else [])
    if not inputs or not all(isinstance(each, list) for each in inputs):
        raise FieldError("base_input", "expected lists of arguments")
    examples = _examples(record.text("assertion"), entry)
    arguments = [
        [_typed(value, column) for value, column in zip(each, _columns(examples, len(each)), strict=True)] for each in inputs
    ]
    test = EvalPlusTest(arguments, None, program, entry, record.number("atol"), ORACLES.get(entry, "equal"))
    mode, pairs = test.pairs()
    return Question(statement=statement, program=program, entry=entry, mode=mode, private=pairs)


def _parsed(source: str, field: str) -> ast.stmt:
    tree = parse_source(source.strip())
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Assert):
        raise FieldError(field, "expected Python assertions, one each")
    return tree.body[0]


def _called(statements: list[ast.stmt], program: str) -> str:
    """The function of the program that all assertions call."""
    tree = parse_source(program)
    if tree is None:
        raise FieldError("code", "expected a Python program")
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    used = [
        {node.func.id for node in ast.walk(statement) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        for statement in statements
    ]
    common = [name for name in defined if used and all(name in names for names in used)]
    if not common:
        raise FieldError("test_list", "no function of the code is called in every assertion")
    return common[-1]


def _examples(source: str, entry: str) -> list[list[Any]]:
    """The arguments of each call of the entry in assertions, where they are literals."""
    tree = parse_source(source)
    examples = []
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry:
            try:
                examples.append([ast.literal_eval(argument) for argument in node.args])
            except (ValueError, TypeError, RecursionError, MemoryError):
                continue
    return examples


def _columns(examples: list[list[Any]], size: int) -> list[list[Any]]:
    return [[example[place] for example in examples if place < len(example)] for place in range(size)]


def _typed(value: Any, examples: list[Any], depth: int = 0, unknown: type = list) -> Any:
    """A JSON value with the types of examples, since JSON has no tuples, sets and complex numbers."""
    if isinstance(value, list):
        alike = [example for example in examples if isinstance(example, (list, tuple, set))]
        made = type(alike[0]) if alike else unknown
        inner = [item for example in alike for item in example]
        return made(_typed(item, inner, depth + 1, made if depth else list) for item in value)
    if isinstance(value, dict):
        inner = [item for example in examples if isinstance(example, dict) for item in example.values()]
        return {key: _typed(item, inner, depth + 1) for key, item in value.items()}
    if isinstance(value, str) and examples and all(isinstance(example, (int, complex)) for example in examples):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value
