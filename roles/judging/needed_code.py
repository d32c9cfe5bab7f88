"""Leaves out of a proposed program what its entry does not need: tests, examples and a `main` that models write below it."""

from __future__ import annotations

import ast
import itertools
import symtable
from collections.abc import Iterator, Mapping

_UNKNOWN = "*"
"""Name of whatever `from math import *` binds, or `from __future__ import annotations` changes: it may be needed."""


def needed_source(source: str, tree: ast.Module, entry: str) -> str:
    """The program without top-level statements that its entry does not need; the same text where it needs all of them.

    What stands below `if __name__ == "__main__"` goes, and so do asserts and calls that set up nothing that is needed, and
    imports, functions, classes and variables whose names nothing that is left uses.

    Args:
        source: A program.
        tree: Its syntax tree.
        entry: The function that is called; without it the program stays as it is.
    """
    try:
        scopes = {scope.get_lineno(): scope for scope in symtable.symtable(source, "program", "exec").get_children()}
    except SyntaxError:
        return source
    # Calls of the entry itself set up nothing: it has to be the same without them.
    helpers = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name != entry}
    statements = [statement for statement in tree.body if not _is_script(statement)]
    needed, kept = {entry, _UNKNOWN}, [False] * len(statements)
    found = True
    while found:
        found = False
        for number, statement in enumerate(statements):
            if not kept[number] and needed.intersection(_changed_names(statement, helpers)):
                kept[number] = found = True
                needed.update(_read_names(statement, scopes))
    body = [statement for statement, keep in zip(statements, kept, strict=True) if keep]
    spans = [(_first_line(statement), statement.end_lineno or 0) for statement in body]
    overlap = any(before[1] >= after[0] for before, after in itertools.pairwise(spans))
    if len(body) in (0, len(tree.body)) or overlap:
        return source
    lines = source.split("\n")
    return "\n".join(line for first, last in spans for line in lines[first - 1 : last])


def _is_script(statement: ast.stmt) -> bool:
    """Whether a top-level statement is `if __name__ == ...`, whose body an imported module does not run."""
    match statement:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case _:
            return False


def _changed_names(statement: ast.stmt, helpers: Mapping[str, ast.FunctionDef]) -> Iterator[str]:
    """Names that a top-level statement binds or whose values it may change, itself or by a helper that it calls."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    called = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} & helpers.keys()
    for part in (statement, *(part for name in called for part in helpers[name].body)):
        yield from _assigned_names(part)


def _assigned_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(module="__future__"):
                yield _UNKNOWN
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in names)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            # `table[0] = 1`, `first.next = second` and `table.append(1)` change what a name stands for.
            case ast.Attribute(value=ast.Name(id=name)) | ast.Subscript(value=ast.Name(id=name)):
                yield name


def _read_names(statement: ast.stmt, scopes: dict[int, symtable.SymbolTable]) -> Iterator[str]:
    """Names of the module that a top-level statement reads, among others; not those that are local to a function in it."""
    parts: list[ast.AST] = [statement]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and statement.lineno in scopes:
        yield from _global_names(scopes[statement.lineno])
        parts = [part for part in ast.iter_child_nodes(statement) if part not in statement.body]
    yield from (node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name))


def _global_names(scope: symtable.SymbolTable) -> Iterator[str]:
    yield from (symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global())
    for inner in scope.get_children():
        yield from _global_names(inner)


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
