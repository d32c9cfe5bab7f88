"""Parses programs whose trees later passes can walk and write out again. Nothing is executed."""

from __future__ import annotations

import ast

from events.pure.program_structure import parse_or_none

MAX_SOURCE_CHARACTERS = 20_000
"""Programs with more characters are rejected."""
MAX_TREE_DEPTH = 100
"""Programs with a deeper syntax tree are rejected, since later passes are recursive."""


def parse_source(source: str, longest: int = MAX_SOURCE_CHARACTERS) -> ast.Module | None:
    """The syntax tree; None for text that is not Python, longer than `longest` characters or too deep. Never raises."""
    tree = parse_or_none(source, longest)
    return tree if tree is not None and _depth(tree) <= MAX_TREE_DEPTH else None


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def unparse_objection(tree: ast.Module) -> str | None:
    """Why a tree cannot be unparsed; None if it can. Python writes no very long integers, nor some texts in f-strings."""
    try:
        ast.unparse(tree)
    except ValueError:
        return "has a number or a text in it that Python cannot write out again"
    return None
