"""What a proposed program may not do, read off its syntax tree; nothing is executed.

This keeps non-deterministic and side-effecting questions out of the curriculum (Absolute Zero, arXiv 2505.03335, section
3.3.4). It is not a security boundary: the sandbox is.
"""

from __future__ import annotations

import ast
import copy
import warnings

BANNED = frozenset(
    "asyncio builtins calendar concurrent ctypes datetime glob gc hashlib hmac importlib inspect io logging multiprocessing os "
    "pathlib pickle platform random secrets shutil signal socket subprocess sys tempfile threading time uuid weakref".split()
)
"""Modules whose use makes a question unsafe or non-deterministic."""
BANNED_NAMES = frozenset(
    "eval exec compile open input print globals locals vars id hash __import__ breakpoint exit quit".split()
)
"""Builtins with effects, or with results that differ between runs."""
LONGEST = 20_000
"""Characters; a longer program is not read."""


def parse(source: str) -> ast.Module | None:
    """The syntax tree; None where there is none. Total on hostile text."""
    if len(source) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def objection(tree: ast.Module) -> str | None:
    """Why a program must not be asked about; None if there is no reason."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if bad := {name.name.split(".")[0] for name in names} & BANNED:
                return f"imports {min(bad)}"
            case ast.ImportFrom(module=module) if (module or "").split(".")[0] in BANNED:
                return f"imports {module}"
            case ast.Name(id=name) if name in BANNED_NAMES:
                return f"uses {name}"
            case ast.Attribute(attr=attr) if attr.startswith("__"):
                return f"uses {attr[:40]}"
            case ast.Global() | ast.Nonlocal():
                return "uses global state"
    return None


def without_each_statement(tree: ast.Module, entry: str, most: int = 8) -> list[str]:
    """The program again and again, each time with one statement of the entry function left out; its last one stays.

    A question is degenerate if one of these does the same as the whole: then an operation is without effect.
    """
    variants: list[str] = []
    for place, node in enumerate(tree.body):
        if not isinstance(node, ast.FunctionDef) or node.name != entry:
            continue
        for index in range(min(len(node.body) - 1, most)):
            variant = copy.deepcopy(tree)
            function = variant.body[place]
            assert isinstance(function, ast.FunctionDef)
            del function.body[index]
            variants.append(ast.unparse(variant))
    return variants
