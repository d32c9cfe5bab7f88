"""Recognises programs that look their outputs up in a table of their own inputs, by their text; nothing is executed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from events.pure.literal import NotLiteral, outline, outline_arguments
from sandbox.compare import canonical_text

_MAX_NODES: Final = 20_000
"""Most nodes of expressions that are examined, each counted once for every expression that contains it."""


def is_lookup_table(tree: ast.Module, arguments: Sequence[tuple[Any, ...]], outputs: Sequence[object]) -> bool:
    """Whether the program has a table of all inputs but at most one and little else, and contains their outputs."""
    tree = _SplitExpander().visit(copy.deepcopy(tree))
    literals = [value for node in _bounded_walk(tree) if isinstance(node, ast.expr) for value in _literal_values(node)]
    wanted = [_canonical_tuples(output) for output in outputs]
    return _has_keyed_table(tree, literals, arguments, wanted) or any(
        _is_indexed_table(literal, arguments, wanted) for literal in literals if isinstance(literal, list | tuple | str)
    )


def _has_keyed_table(
    tree: ast.Module, literals: Sequence[Any], arguments: Sequence[tuple[Any, ...]], wanted: Sequence[str]
) -> bool:
    """Whether the inputs are the keys of a table, or what the program compares with; the outputs may stand anywhere."""
    known = {*map(_canonical_tuples, literals)}
    # An input is looked up by all its arguments or by one of them.
    forms = [{_canonical_tuples(values), *map(_canonical_tuples, values)} for values in arguments]
    for keys, closed in _tables(tree):
        present = {form for key in keys for form in key}
        hits = sum(bool(form & present) and (closed or output in known) for form, output in zip(forms, wanted, strict=True))
        if _covers(hits, len(wanted), len(keys)):
            return True
    return False


def _is_indexed_table(table: Sequence[Any], arguments: Sequence[tuple[Any, ...]], wanted: Sequence[str]) -> bool:
    """Whether a sequence has each output at the index that is the first argument."""
    by_index = {_canonical_tuples(index): _canonical_tuples(element) for index, element in enumerate(table)}
    hits = sum(
        by_index.get(_canonical_tuples(values[0])) == output for values, output in zip(arguments, wanted, strict=True) if values
    )
    return _covers(hits, len(wanted), len(table))


class _SplitExpander(ast.NodeTransformer):
    """Replaces `'a b c'.split()` by the list of its words."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str() as text), attr="split"), args=[], keywords=[]):
                words = text.split()
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str() as text), attr="split"),
                args=[ast.Constant(value=str() as mark)],
                keywords=[],
            ) if mark:
                words = text.split(mark)
            case _:
                return node
        return ast.List([ast.Constant(word) for word in words], ast.Load())


def _bounded_walk(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes of a program, breadth first, up to `_MAX_NODES`."""
    left = _MAX_NODES
    for node in ast.walk(tree):
        left -= sum(1 for _ in ast.walk(node)) if isinstance(node, ast.expr) else 0
        if left < 0:
            return
        yield node


def _covers(hits: int, pairs: int, keys: int) -> bool:
    """Whether a table was made for these test cases: it has all but at most one, and they are three quarters of its keys."""
    return hits >= max(2, pairs - 1) and 4 * hits >= 3 * keys


def _canonical_tuples(value: Any) -> str:
    """The canonical text of a value, where all lists count as tuples."""
    return canonical_text(value).replace("[", "(").replace("]", ")")


_Keys = set[frozenset[str]]
"""Keys of a table, each as the set of canonical texts that it may stand for."""


def _tables(tree: ast.Module) -> Iterator[tuple[_Keys, bool]]:
    """The keys of everything that may be a table: dicts, lists of keys or of pairs, and constants in comparisons.

    With each, whether the table is closed: its values contain no names.
    """
    compared: _Keys = set()
    rows: _Keys = set()
    for node in _bounded_walk(tree):
        match node:
            case ast.Dict(keys=keys, values=values):
                closed = not any(isinstance(part, ast.Name) for value in values for part in ast.walk(value))
                yield _literal_keys(key for key in keys if key is not None), closed
            case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
                yield _literal_keys(ast.Constant(word.arg) for word in keywords if word.arg), False
            case ast.Assign(targets=[ast.Subscript(slice=key)]):
                compared |= _literal_keys([key])
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                yield _literal_keys(parts), False
                yield (
                    _literal_keys(part.elts[0] for part in parts if isinstance(part, ast.Tuple | ast.List) and part.elts),
                    False,
                )
            case ast.Compare(ops=[ast.Eq() | ast.Is()], left=left, comparators=[right]):
                compared |= _literal_keys([left, right])
            case ast.Compare(ops=[ast.In()], comparators=[ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts)]):
                compared |= _literal_keys(parts)
            case ast.MatchValue(value=value):
                compared |= _literal_keys([value])
            case ast.MatchSequence(patterns=patterns) if all(isinstance(part, ast.MatchValue) for part in patterns):
                row = ast.List([part.value for part in patterns if isinstance(part, ast.MatchValue)])
                rows |= _literal_keys([row])
    yield compared, False
    yield rows, False


def _literal_keys(nodes: Iterable[ast.expr]) -> _Keys:
    return {frozenset(map(_canonical_tuples, values)) for node in nodes if (values := _literal_values(node))}


def _literal_values(node: ast.expr) -> list[Any]:
    """The value of a literal expression; for a string that is itself a literal also its value, as for keys made by `str`."""
    if isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Lambda):
        return []
    try:
        value = outline(ast.unparse(node))
    except NotLiteral:
        return []
    if not isinstance(value, str):
        return [value]
    try:
        return [value, outline_arguments(value)]
    except NotLiteral:
        return [value]
