"""Mutants: variants of a program with one small mistake each.

Guarantees: the same mutants in the same order for the same program. A mutant may be equivalent to the program; nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitXor,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
"""What each operator is mistaken for."""

KEPT = (ast.Return, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Pass)
"""Statements that are not left out: the program would not even start, or nothing would change."""


def mutants(source: str) -> list[str]:
    """All mutants of a program, each once.

    An operator is swapped, a number off by one, a condition negated, a statement left out, or nothing returned.
    """
    tree = ast.parse(source)
    original = ast.unparse(tree)
    return [mutant for mutant in dict.fromkeys(_all(tree)) if mutant != original]


def _all(tree: ast.Module) -> Iterator[str]:
    for node in list(ast.walk(tree)):
        for name, value in list(ast.iter_fields(node)):
            for new in _instead(name, value):
                setattr(node, name, new)
                yield ast.unparse(ast.fix_missing_locations(tree))
            setattr(node, name, value)


def _instead(name: str, value: object) -> Iterator[object]:
    """Mistaken values of a field."""
    match value:
        case ast.expr() if name == "test":
            yield ast.UnaryOp(ast.Not(), value)
        case ast.operator() | ast.boolop() if type(value) in SWAPS:
            yield SWAPS[type(value)]()
        case int() if name == "value" and not isinstance(value, bool):
            yield from (value + 1, value - 1)
        case [ast.cmpop() as first, *rest] if type(first) in SWAPS:
            yield [SWAPS[type(first)](), *rest]
        case [ast.stmt(), *_]:
            for index, statement in enumerate(value):
                if isinstance(statement, ast.Return) and statement.value is not None:
                    yield [*value[:index], ast.Return(ast.Constant(None)), *value[index + 1 :]]
                elif not isinstance(statement, KEPT):
                    yield [*value[:index], ast.Pass(), *value[index + 1 :]]
