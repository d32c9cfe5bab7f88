"""Extracts the program from an answer as EvalPlus's sanitizer does: fences and prose do not matter, only what parses.

It takes the most lines in a row that are Python, and of them imports and the definitions that the entry needs. Demonstrations,
assertions and prints behind a function are left out, and so is a truncated tail.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Final

from events.facts.values import JudgingRules
from events.pure.answer_parsing import Malformed, answer_section, parse_program
from events.pure.program_structure import PARSE_ERRORS, parse_or_none, reachable

MAX_ANSWER_LENGTH: Final = 32_000
"""Characters of an answer that are read."""
MAX_PARSED: Final = 200_000
"""Characters that are parsed for one answer in all tries together; honest answers need a few ten thousand."""


def extract_program(text: str, rules: JudgingRules, entry: str) -> str | Malformed:
    """The program in a completion: by the rules `evalplus` what `sanitize` finds, by others the last python block."""
    return sanitize(answer_section(text), entry) if rules == "evalplus" else parse_program(text)


def sanitize(text: str, entry: str) -> str | Malformed:
    """The program that EvalPlus 0.3.1 would run, given the name of the function that is asked for. Nothing is executed."""
    run = longest_parsable_lines(text[:MAX_ANSWER_LENGTH])
    tree = parse_or_none(run, MAX_ANSWER_LENGTH)
    if tree is None or not tree.body:
        return Malformed("no lines that are Python")
    return "\n".join(_kept(run, tree, entry)).strip() or run


def longest_parsable_lines(text: str) -> str:
    """The two or more lines in a row that parse and have the most lines that are not blank; else the first line."""
    lines = text.split("\n")
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    # From each first line, the longest part that parses; a later start can win only with more lines that are not blank.
    best, most, left = (0, 1), 0, MAX_PARSED
    for start, line in enumerate(lines):
        if filled[-1] - filled[start] <= most or left <= 0:
            break
        if _indented(line):
            continue
        end = len(lines)
        while end - start > 1 and filled[end] - filled[start] > most and left > 0:
            part = "\n".join(lines[start:end])
            left -= len(part)
            wrong = _wrong_line(part)
            if wrong is None:
                best, most = (start, end), filled[end] - filled[start]
                break
            # A part that ends behind the line with the error has the same error.
            end = min(end - 1, start + wrong - 1) if wrong else end - 1
    return "\n".join(lines[best[0] : best[1]])


def _indented(line: str) -> bool:
    """Whether no program can begin with this line; an indented comment may."""
    return line[:1] in (" ", "\t") and not line.lstrip().startswith("#") and bool(line.strip())


def _wrong_line(part: str) -> int | None:
    """The number, from 1, of the line at which a text stops being Python; 0 if unknown; None where it parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(part)
    except SyntaxError as error:
        return error.lineno or 0
    except PARSE_ERRORS:
        return 0
    return None


def _kept(source: str, tree: ast.Module, entry: str) -> Iterator[str]:
    """Source of the imports, then of the first definition of each name that the entry needs."""
    # A carriage return ends a line for Python as well.
    lines = source.encode().splitlines(keepends=True)
    definitions: dict[str, ast.stmt] = {}
    imports: list[ast.stmt] = []
    for node in tree.body:
        match node:
            case ast.ImportFrom(module="__future__"):
                continue
            case ast.Import() | ast.ImportFrom():
                imports.append(node)
            # As in EvalPlus, what is decorated is left out, and so are functions that return nothing.
            case ast.ClassDef(name=name, decorator_list=[]):
                definitions.setdefault(name, node)
            case ast.FunctionDef(name=name, decorator_list=[]) | ast.AsyncFunctionDef(name=name, decorator_list=[]):
                if any(isinstance(part, ast.Return) for part in ast.walk(node)):
                    definitions.setdefault(name, node)
            case ast.Assign() | ast.AnnAssign():
                if (assigned := _assigned(node)) is not None:
                    definitions.setdefault(assigned, node)
    needed = reachable([entry], {name: set(_named(node)) for name, node in definitions.items()})
    for node in [*imports, *(node for name, node in definitions.items() if name in needed)]:
        yield _source_of(lines, node)


def _assigned(node: ast.Assign | ast.AnnAssign) -> str | None:
    """The first plain name on either side of an assignment, by which EvalPlus knows it."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    value = node.value if isinstance(node, ast.AnnAssign) or len(node.targets) == 1 else None
    return next((side.id for side in (target, value) if isinstance(side, ast.Name)), None)


def _named(node: ast.AST) -> Iterator[str]:
    """Every identifier in a definition, whatever it names."""
    for part in ast.walk(node):
        for field in ("id", "attr", "arg", "name", "asname", "module", "rest"):
            value = getattr(part, field, None)
            if isinstance(value, str):
                yield from value.split(".")
        if isinstance(part, ast.Global | ast.Nonlocal):
            yield from part.names
        elif isinstance(part, ast.MatchClass):
            yield from part.kwd_attrs


def _source_of(lines: list[bytes], node: ast.stmt) -> str:
    *before, last = lines[node.lineno - 1 : node.end_lineno]
    text = b"".join([*before, last[: node.end_col_offset]])
    return text[node.col_offset :].decode()
