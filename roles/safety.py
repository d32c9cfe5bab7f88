"""What a proposed program may not do, read off its syntax tree; nothing is executed.

This keeps non-deterministic and side-effecting questions out of the curriculum (Absolute Zero, arXiv 2505.03335, section
3.3.4). It is not a security boundary: the sandbox is.
"""

from __future__ import annotations

import ast
import copy
import warnings

ALLOWED = frozenset(
    "__future__ abc array bisect cmath collections copy dataclasses decimal enum fractions functools heapq itertools math "
    "numbers operator re statistics string textwrap typing unicodedata".split()
)
"""Modules that a question may use: pure computation, equal on every run."""
BANNED_NAMES = frozenset(
    "eval exec compile open input print globals locals vars id hash getattr setattr delattr __import__ breakpoint exit "
    "quit".split()
)
"""Builtins with effects, or with results that differ between runs."""
LONGEST = 20_000
"""Characters; a longer program is not read."""
DEEPEST = 100
"""Levels of syntax; a deeper program is not read, since what walks the tree later recurses."""


def parse(source: str, longest: int = LONGEST) -> ast.Module | None:
    """The syntax tree; None where there is none, or more than `longest` characters. Total on hostile text."""
    if len(source) > longest:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if _depth(tree) <= DEEPEST else None


def _depth(tree: ast.AST) -> int:
    """Levels of a tree, counted without recursion."""
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def objection(tree: ast.Module) -> str | None:
    """Why a program must not be asked about; None if there is no reason."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if bad := {name.name.split(".")[0] for name in names} - ALLOWED:
                return f"imports {min(bad)}"
            case ast.ImportFrom(module=module) if (module or "").split(".")[0] not in ALLOWED:
                return f"imports {module}"
            case ast.Name(id=name) if name in BANNED_NAMES:
                return f"uses {name}"
            case ast.Attribute(attr=attr) if attr.startswith("__"):
                return f"uses {attr[:40]}"
            case ast.Global() | ast.Nonlocal():
                return "uses global state"
    return None


def without_each_statement(tree: ast.Module, entry: str, most: int = 8) -> list[str]:
    """The program again and again, each time with one operation of the entry function left out.

    Operations are its top-level assignments, calls, loops and deletions; a docstring or a guard is none. A question is
    degenerate if one of these variants does the same as the whole.
    """
    variants: list[str] = []
    for place, node in enumerate(tree.body):
        if not isinstance(node, ast.FunctionDef) or node.name != entry:
            continue
        for index in [i for i, part in enumerate(node.body[:-1]) if _operates(part)][:most]:
            variant = copy.deepcopy(tree)
            function = variant.body[place]
            assert isinstance(function, ast.FunctionDef)
            del function.body[index]
            variants.append(ast.unparse(variant))
    return variants


def _operates(part: ast.stmt) -> bool:
    if isinstance(part, ast.Expr):
        return isinstance(part.value, ast.Call)
    return isinstance(part, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.For | ast.While | ast.Delete)
