"""Static analysis of programs: a hash of their structure, and parameters that have no effect.

Guarantees: programs are hostile text; nothing raises and nothing is run. Only what the syntax tree proves is claimed.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, Final, TypeVar

from events.facts.values import Question

NodeT = TypeVar("NodeT", bound=Hashable)

_LONGEST: Final = 16_000
"""Most characters of a program that is parsed; an answer may have as many."""
PARSE_ERRORS: Final = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
"""Errors that parsing and walking hostile text raise."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_OPAQUE: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Global, ast.Nonlocal)
"""Nodes that may read a variable at another time than where they stand ..."""
_REFLECTING: Final = frozenset({"eval", "exec", "locals", "vars", "globals", "dir", "getattr", "__import__"})
"""... and functions that may read it without naming it."""
_NAME_FIELD: Final = {
    ast.FunctionDef: "name",
    ast.AsyncFunctionDef: "name",
    ast.ClassDef: "name",
    ast.arg: "arg",
    ast.keyword: "arg",
    ast.Name: "id",
}
"""Fields with a name that a program may have bound itself ..."""
_LEFT_OUT: Final = {ast.FunctionDef: "returns", ast.AsyncFunctionDef: "returns", ast.arg: "annotation"}
"""... and fields that change nothing of what it does."""
_WITH_DOCSTRING: Final = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CATCHING: Final = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith)
"""Statements that may branch where something in them raises."""
_TRACED: Final = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)
"""Expressions with an effect of their own."""


# Several functions look at a program one after the other.
@lru_cache(maxsize=1)
def parse_or_none(program: str, limit: int = _LONGEST) -> ast.Module | None:
    """The syntax tree, not to be changed; None if it cannot be parsed, or is longer than `limit` characters."""
    if len(program) > limit:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(program)
    except PARSE_ERRORS:
        return None


def reachable(start: Iterable[NodeT], edges: Mapping[NodeT, set[NodeT]]) -> set[NodeT]:
    """All that can be reached from the start, which is part of it."""
    reached = set(start)
    waiting = list(reached)
    while waiting:
        new = edges.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def structure_hash(program: str) -> str:
    """SHA-256 (hex) that is equal for programs that differ only in names, comments, docstrings, annotations and layout.

    Names that the program does not bind itself, and literals, count. Of a program that cannot be parsed, its words are hashed.
    """
    tree = parse_or_none(program)
    try:
        text = " ".join(program.split()) if tree is None else _normalised(tree)
    except PARSE_ERRORS:
        text = " ".join(program.split())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _nodes(*parts: ast.AST) -> list[ast.AST]:
    """All nodes in the order of `ast.walk`, but for contexts and operators; indexing spends much of its time here."""
    nodes = list(parts)
    for node in nodes:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                if value._fields:
                    nodes.append(value)
            elif isinstance(value, list):
                nodes += [part for part in value if isinstance(part, ast.AST)]
    return nodes


def _normalised(tree: ast.Module) -> str:
    """The tree as text, in the order of `ast.walk`, with the names that it binds numbered in the order of binding."""
    parts: list[str] = []
    # Apart from the rest, because a use may come before the binding.
    names: list[str | None] = []
    own: dict[str | None, str] = {}
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        kind = type(node)
        name_field, left_out = _NAME_FIELD.get(kind), _LEFT_OUT.get(kind)
        for field in node._fields:
            value = getattr(node, field, None)
            if field == name_field:
                names.append(value)
                if kind is not ast.keyword and not isinstance(getattr(node, "ctx", None), ast.Load | ast.Del):
                    own.setdefault(value, f"_{len(own)}")
            elif field in ("ctx", left_out):
                # The context follows from where a name stands.
                continue
            else:
                children: list[Any] = value if isinstance(value, list) else [value]
                if field == "body" and kind in _WITH_DOCSTRING:
                    children = [part for part in children if not _is_text(part)]
                parts.append(str(len(children)))
                for child in children:
                    if isinstance(child, ast.AST):
                        parts.append(type(child).__name__)
                        nodes.append(child)
                    else:
                        parts.append(repr(child))
    return f"{' '.join(parts)} {[own.get(name, name) for name in names]}"


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def ignored_parameters(question: Question) -> list[str]:
    """Parameters of the reference program's entry that its result does not depend on; for stdin, an input that nothing reads.

    A parameter with a default is an option and does not count. Whatever decides a branch or changes something in place is taken
    to matter.
    """
    tree = parse_or_none(question.program or "")
    if tree is None or _names(tree) & _REFLECTING:
        return []
    try:
        if question.mode == "stdin":
            reading = {"input", "stdin", "open", "fileinput", "read", "FileIO"}
            return [] if not tree.body or _names(tree) & reading else ["its input"]
        entry = _entry(tree, question.entry)
        return [] if entry is None else _idle(entry, _required(entry, "." in question.entry))
    except PARSE_ERRORS:
        return []


def _names(tree: ast.AST) -> set[str]:
    """Every name, attribute and imported module."""
    names: set[str] = set()
    for node in _nodes(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
            case ast.alias(name=name):
                names.update(name.split("."))
    return names


def _entry(tree: ast.Module, entry: str) -> _Function | None:
    """The function `f` or `Solution.method`; the last of that name, as in Python."""
    body: list[ast.stmt] = tree.body
    *classes, name = entry.split(".")
    for wanted in classes:
        named = [part for part in body if isinstance(part, ast.ClassDef) and part.name == wanted]
        body = named[-1].body if named else []
    functions = [part for part in body if isinstance(part, _Function) and part.name == name]
    return functions[-1] if functions else None


def _required(entry: _Function, method: bool) -> list[str]:
    arguments = entry.args
    named = [*arguments.posonlyargs, *arguments.args]
    named = named[: len(named) - len(arguments.defaults)]
    bound = method and not any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in entry.decorator_list)
    return [argument.arg for argument in named[bound:]]


def _idle(entry: _Function, parameters: list[str]) -> list[str]:
    inner = _nodes(*entry.body)
    # Inner functions and kept generators read variables later, so only names that are never read are idle for sure.
    if any(isinstance(node, _OPAQUE) or isinstance(getattr(node, "value", None), ast.GeneratorExp) for node in inner):
        read = _reads(inner)
        return [name for name in parameters if name not in read]
    if all(_is_text(part) or isinstance(part, ast.Pass | ast.Raise) for part in entry.body):
        # A stub.
        return []
    mattering = _Flow().mattering(entry.body)
    return [name for name in parameters if (name, 0) not in mattering]


def _reads(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}


_Value = tuple[str, int]
"""A variable and the number of its assignments so far on the unconditional path; 0 is the parameter's value."""


class _Flow:
    """Data flow in a function without inner functions."""

    def __init__(self) -> None:
        self._now: defaultdict[str, int] = defaultdict(int)
        self._from: defaultdict[_Value, set[_Value]] = defaultdict(set)
        self._needed: set[_Value] = set()
        self._mixes = count()

    def mattering(self, body: list[ast.stmt]) -> set[_Value]:
        """Values on which something depends that is returned, decides a branch or is changed in place."""
        # Forwards over the statements, to see what flows into what; then backwards from what is needed.
        for part in body:
            self._take(part, straight=True)
            if isinstance(part, ast.Return | ast.Raise):
                break
        return reachable(self._needed, self._from)

    def _values(self, *parts: ast.AST) -> set[_Value]:
        return {(name, self._now[name]) for name in _reads(_nodes(*parts))}

    def _take(self, part: ast.AST, *, straight: bool) -> None:
        match part:
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value, straight)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign([target], value, straight)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                # It may change the value in place, which others then see.
                self._needed |= {(name, self._now[name]), *self._values(value)}
            case ast.stmt() | ast.ExceptHandler() | ast.match_case():
                if isinstance(part, _CATCHING):
                    self._needed |= self._values(part)
                for child in ast.iter_child_nodes(part):
                    self._take(child, straight=False)
            case _:
                self._needed |= self._values(part)

    def _assign(self, targets: list[ast.expr], value: ast.expr, straight: bool) -> None:
        inner = _nodes(value)
        read = {(name, self._now[name]) for name in _reads(inner)}
        stored = _nodes(*targets)
        plain = all(isinstance(node, ast.Name | ast.Tuple | ast.List | ast.Starred | ast.expr_context) for node in stored)
        if not plain or any(isinstance(node, _TRACED) for node in inner):
            self._needed |= read | self._values(*targets)
        if any(isinstance(node, ast.Call) for node in inner):
            # A call may put any of its arguments into any other.
            mix = ("", next(self._mixes))
            self._from[mix] |= read
            for value_read in read:
                self._from[value_read].add(mix)
        for node in stored:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                # Only an assignment that always runs hides the value before it.
                self._now[node.id] += straight
                self._from[node.id, self._now[node.id]] |= read
