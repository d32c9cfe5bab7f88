"""The operations of a proposed program: the statements that should have an effect, and the program without one of them."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

MAX_LOOP_STEPS = 100_000
"""Most iterations of all loops of a variant together."""
_STEPS = "gasp_steps"
_STEP = ast.parse(f"{_STEPS}.__next__()").body


class ProgramOperation(NamedTuple):
    """A statement that should have an effect, by its place in the tree."""

    node: ast.AST
    block: str
    """Name of the parent's list of statements."""
    position: int
    """In that list."""


def operations(tree: ast.Module, entry: str) -> list[ProgramOperation]:
    """The operations of a program: each helper as a whole, and the statements of functions but docstrings, guards and returns.

    Below the top level of the entry, a call or an item's assignment counts only if nothing else uses the object that it
    changes: a cache or a set of visited nodes is fine even where no input needs it. So is a flag: a constant for a used name.
    """
    inner: list[ProgramOperation] = []
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        loaded = (node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
        uses = Counter(loaded)
        for node in _statements_of(function):
            top = node is function and function.name == entry
            for block in ("body", "orelse", "finalbody"):
                for index, statement in enumerate(getattr(node, block, ())):
                    if _is_operation(statement, top=top, uses=uses):
                        inner.append(ProgramOperation(node, block, index))
    helpers = [
        index
        for index, part in enumerate(tree.body)
        if isinstance(part, ast.Assign) or (isinstance(part, ast.FunctionDef | ast.ClassDef) and part.name != entry)
    ]
    return inner + [ProgramOperation(tree, "body", index) for index in helpers]


def replace_operation(tree: ast.Module, operation: ProgramOperation, statement: ast.stmt) -> str:
    """The program with another statement in place of an operation, and with a limit for all loops together."""
    block = getattr(operation.node, operation.block)
    kept, block[operation.position] = block[operation.position], statement
    try:
        return ast.unparse(ast.fix_missing_locations(_LoopLimiter().visit(copy.deepcopy(tree))))
    finally:
        block[operation.position] = kept


def _statements_of(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The function and its compound statements, without those of inner functions."""
    waiting: list[ast.AST] = [function]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [
            part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr | ast.FunctionDef | ast.ClassDef)
        ]


def _is_operation(statement: ast.stmt, *, top: bool, uses: Counter[str]) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return top or uses[name] <= 1
        case ast.Expr(value=ast.Call()) | ast.Delete():
            return top
        case ast.Expr(value=ast.Constant() | ast.Yield() | ast.YieldFrom() | ast.Await()):
            return False
        case ast.Expr() | ast.FunctionDef() | ast.ClassDef():
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()) if not top and uses[name]:
            return False
        case ast.Assign(targets=targets):
            return top or all(isinstance(target, ast.Name | ast.Tuple) or _otherwise_unused(target, uses) for target in targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return top or isinstance(target, ast.Name) or _otherwise_unused(target, uses)
        case ast.For() | ast.While():
            return top or not any(isinstance(node, ast.stmt) and not isinstance(node, ast.Pass) for node in statement.body)
    return False


def _otherwise_unused(target: ast.expr, uses: Counter[str]) -> bool:
    """Whether the object with this item or attribute is used nowhere else."""
    return (
        isinstance(target, ast.Subscript | ast.Attribute) and isinstance(target.value, ast.Name) and uses[target.value.id] <= 1
    )


class _LoopLimiter(ast.NodeTransformer):
    """Limits all loops: one that has lost its counter would run for ever."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        # A docstring and imports from `__future__` have to stay first.
        first = sum(1 for part in node.body if isinstance(part, ast.ImportFrom) and part.module == "__future__")
        first += ast.get_docstring(node, clean=False) is not None
        node.body[first:first] = ast.parse(f"{_STEPS} = iter(range({MAX_LOOP_STEPS}))").body
        return node

    def visit_For(self, node: ast.For | ast.While) -> ast.For | ast.While:
        self.generic_visit(node)
        node.body[:0] = _STEP
        return node

    visit_While = visit_For  # noqa: N815  # the name that `ast` looks for
