"""What a program's text says about it, read and never run: its shape, and inputs that have no effect.

Law: total. Programs are hostile text of any form; one that cannot be parsed says nothing here, and nothing raises. What is
claimed is claimed on the syntax tree alone, and where that leaves a doubt, nothing is claimed.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from typing import Final

from events.facts.values import Question

_LONGEST: Final = 16_000
"""Characters of a program that is parsed, as many as an answer may have."""
PARSE_ERRORS: Final = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
"""What parsing and walking hostile text raises."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_OPAQUE: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Global, ast.Nonlocal)
"""What may read a variable at another time than where it stands ..."""
_REFLECTING: Final = frozenset({"eval", "exec", "locals", "vars", "globals", "dir", "getattr", "__import__"})
"""... or without naming it."""
_CATCHING: Final = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith)
"""What goes another way where something in it fails."""
_TRACED: Final = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)
"""What in an expression has an effect of its own."""


def parse_or_none(program: str) -> ast.Module | None:
    """The syntax tree; None if there is none."""
    if len(program) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(program)
    except PARSE_ERRORS:
        return None


def structure_hash(program: str) -> str:
    """A hash that programs share which differ in names, comments, docstrings, annotations and layout only.

    Names that the program does not bind itself, and literals, do count. What cannot be parsed is known by its words.
    """
    tree = parse_or_none(program)
    try:
        text = " ".join(program.split()) if tree is None else _plain(tree)
    except PARSE_ERRORS:
        text = " ".join(program.split())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _nodes(*parts: ast.AST) -> list[ast.AST]:
    """All nodes in the order of `ast.walk`, in less time; much of an index is made of such walks."""
    found = list(parts)
    for node in found:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found += [part for part in value if isinstance(part, ast.AST)]
    return found


def _plain(tree: ast.Module) -> str:
    """The tree as text, its own names numbered in the order in which it binds them."""
    own: dict[str, str] = {}
    nodes = _nodes(tree)
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                own.setdefault(name, f"_{len(own)}")
                node.body = [part for part in node.body if not _is_text(part)]
                if not isinstance(node, ast.ClassDef):
                    node.returns = None
            case ast.arg(arg=name):
                own.setdefault(name, f"_{len(own)}")
                node.annotation = None
            case ast.Name(id=name, ctx=ast.Store()):
                own.setdefault(name, f"_{len(own)}")
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                node.name = own[node.name]
            case ast.arg():
                node.arg = own[node.arg]
            case ast.keyword(arg=str(name)):
                node.arg = own.get(name, name)
            case ast.Name():
                node.id = own.get(node.id, node.id)
    tree.body = [part for part in tree.body if not _is_text(part)]
    return ast.dump(tree, annotate_fields=False)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def ignored_parameters(question: Question) -> list[str]:
    """Parameters of the reference program's entry that its result does not depend on; for stdin, an input that nothing reads.

    A parameter with a default is an option and does not count. Whatever decides where the program goes, or changes something
    in place, is taken to matter.
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
    """Every name and attribute, and every module that is imported."""
    found: set[str] = set()
    for node in _nodes(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.alias(name=name):
                found.update(name.split("."))
    return found


def _entry(tree: ast.Module, entry: str) -> _Function | None:
    """The function of that name, as `f` or `Solution.method`; the last one, as Python takes it."""
    body: list[ast.stmt] = tree.body
    *classes, name = entry.split(".")
    for wanted in classes:
        found = [part for part in body if isinstance(part, ast.ClassDef) and part.name == wanted]
        body = found[-1].body if found else []
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
    if any(isinstance(node, _OPAQUE) or isinstance(getattr(node, "value", None), ast.GeneratorExp) for node in inner):
        read = _reads(inner)
        return [name for name in parameters if name not in read]
    if all(_is_text(part) or isinstance(part, ast.Pass | ast.Raise) for part in entry.body):
        # A declaration of what is to be written.
        return []
    mattering = _Flow().mattering(entry.body)
    return [name for name in parameters if (name, 0) not in mattering]


def _reads(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}


_Value = tuple[str, int]
"""A variable between two of its assignments on the straight way through a function; 0 is what the parameter brought."""


class _Flow:
    """What flows where in a function without inner functions."""

    def __init__(self) -> None:
        self._now: defaultdict[str, int] = defaultdict(int)
        self._from: defaultdict[_Value, set[_Value]] = defaultdict(set)
        self._needed: set[_Value] = set()
        self._mixes = count()

    def mattering(self, body: list[ast.stmt]) -> set[_Value]:
        """Values that something needs which is returned, decides or is changed in place."""
        for part in body:
            self._take(part, straight=True)
            if isinstance(part, ast.Return | ast.Raise):
                break
        found, waiting = set(self._needed), list(self._needed)
        while waiting:
            new = self._from[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    def _values(self, *parts: ast.AST) -> set[_Value]:
        return {(name, self._now[name]) for name in _reads(_nodes(*parts))}

    def _take(self, part: ast.AST, *, straight: bool) -> None:
        match part:
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value, straight)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign([target], value, straight)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                # In place where it can be, so that others with this value see it.
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
            # What is called may put any of these into any other.
            mix = ("", next(self._mixes))
            self._from[mix] |= read
            for known in read:
                self._from[known].add(mix)
        for node in stored:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._now[node.id] += straight
                self._from[node.id, self._now[node.id]] |= read
