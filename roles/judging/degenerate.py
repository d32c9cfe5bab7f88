"""What makes a proposed question worthless although its program runs, read off its text and its pairs; nothing is executed."""

from __future__ import annotations

import ast
import copy
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from keyword import iskeyword
from typing import Any, Final

from events.facts.values import IOPair, Question
from events.pure.literal import NotLiteral, outline, outline_arguments, write
from sandbox.compare import canonical_text

MAX_PROMPT_CHARACTERS: Final = 16_000
"""Characters that statement, program and pairs may have together, since all of them are shown in some prompt."""
_WORDLIKE: Final = re.compile(r"\w")
_WORD: Final = re.compile(r"[^\W\d_]{2}")
_CONTROL: Final = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|<\|im_(?:start|end)|<</?SYS>>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|sMASK)\]"
    r"|</?(?:s|think|answer|bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|tool_call|tool_response|fim_(?:prefix|middle|suffix|pad)"
    r"|file_sep|repo_name|reserved_\d+|unused\d+)>"
    r"|^[ \t]*(?:User|Assistant|System|Human)[ \t]*:|^[ \t]*#+[ \t]*(?:Instruction|Response|User|Assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""What templates of conversations and our own prompts put between turns."""
_MIN_LINE_CHARACTERS: Final = 10
"""Characters of a line of a program that says something."""
_MAX_NODES: Final = 20_000
"""Nodes of expressions that are looked at in a program, each once for every expression that it is in."""
_MIN_OUTPUT_CHARACTERS: Final = 2
"""Characters that outputs must have on average to be recognized in a statement."""
_MAX_CONSTANT_CHARACTERS: Final = 1 << 20
"""Characters of a literal that a program of the allowed size can hold."""
_COMMON_OUTPUTS: Final = frozenset({"True", "False", "None"})
_JUMPS: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_MAX_DISTANCE: Final = 40
"""Characters between an input and its output, where a text tells both."""


def text_objection(statement: str, program: str, inputs: Sequence[str]) -> str | None:
    """Why a proposal's texts cannot be shown, before anything is run; None if they can."""
    if not _WORD.search(statement):
        return "the statement has no words"
    for name, text in (("statement", statement), ("program", program), ("inputs", "\n".join(inputs))):
        if found := _CONTROL.search(text):
            return f"the {name} has {found[0].strip()}, which stands between the turns of a conversation"
    return None


def degenerate_reason(question: Question, tree: ast.Module) -> str | None:
    """Why nothing could be learned from a question; None if there is no reason.

    Args:
        question: with the outputs that its program gave.
        tree: the program's syntax tree.
    """
    shown = len(question.statement) + len(question.program or "") + sum(len(p.input) + len(p.output) for p in question.pairs)
    if shown > MAX_PROMPT_CHARACTERS:
        return f"statement, program and pairs have {shown} characters; a prompt has room for {MAX_PROMPT_CHARACTERS}"
    if _CONTROL.search("\n".join(pair.output for pair in question.pairs)):
        return "an output has what stands between the turns of a conversation"
    if _unreachable(tree):
        return "the program has statements that nothing can come to"
    if _statement_contains_program(question.statement, tree):
        return "the statement has the program in it"
    if _statement_contains_outputs(question, tree):
        return "the statement has outputs of hidden inputs in it"
    arguments = [outline_arguments(pair.input) for pair in question.pairs]
    outputs = [outline(pair.output) for pair in question.pairs]
    if _returns_argument(arguments, outputs):
        return "every output is an argument as it was given"
    if _is_lookup_table(tree, arguments, outputs):
        return "the program looks its outputs up in a table of its own inputs"
    return None


def _unreachable(tree: ast.Module) -> bool:
    """Whether something stands behind a return or its like, or under a condition that is written out as false."""
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if isinstance(statements, list) and any(isinstance(one, _JUMPS) for one in statements[:-1]):
                return True
        # Of a test without names one side is never come to, or it is no test.
        if isinstance(node, ast.If) and not any(
            isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node.test)
        ):
            return True
    return False


def _statement_contains_program(statement: str, tree: ast.Module) -> bool:
    """Whether half of what the program's lines say stands in the statement, whatever the spaces; or line by line, the names."""
    said = re.sub(r"\s", "", statement)
    bare = ast.parse(ast.unparse(tree))
    for node in ast.walk(bare):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and len(node.body) > 1 and ast.get_docstring(node) is not None:
            del node.body[0]
    shapes = {_shape(line) for line in statement.split("\n")}
    found, telling = 0, 0
    for written in ast.unparse(bare).split("\n"):
        line = re.sub(r"\s", "", written)
        # Signatures may be told.
        if len(line) >= _MIN_LINE_CHARACTERS and not written.lstrip().startswith(("import ", "from ", "def ", "class ")):
            telling += len(line)
            found += len(line) * (line in said or line.replace("'", '"') in said or _shape(written) in shapes)
    return 2 * found > telling


def _shape(line: str) -> str:
    """A line of a program whatever its names and spaces are."""
    return re.sub(r"\s", "", re.sub(r"[^\W\d]\w*", lambda word: word[0] if iskeyword(word[0]) else "_", line))


def _statement_contains_outputs(question: Question, tree: ast.Module) -> bool:
    """Whether most hidden pairs stand in the statement, or all hidden outputs.

    What the program has written out, such as labels, must be told; what public pairs have is known.
    """
    statement = _StatementText(question.statement)
    told = [pair for pair in question.private if statement.tells(pair)]
    if 2 * len(told) > len(question.private):
        return True
    known = _COMMON_OUTPUTS.union(pair.output for pair in question.public).union(_constants(tree))
    outputs = {pair.output for pair in question.private} - known
    telling = len(outputs) > 1 and sum(map(len, outputs)) >= _MIN_OUTPUT_CHARACTERS * len(outputs)
    return telling and all(statement.places(output) for output in outputs)


def _constants(tree: ast.Module) -> Iterator[str]:
    """Texts and numbers that are written out in a program, negative ones included, as an output would be."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | int() | float() as value):
                yield write(value, _MAX_CONSTANT_CHARACTERS)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                yield write(-value, _MAX_CONSTANT_CHARACTERS)


class _StatementText:
    """A text in which literals are looked for, however they are spaced, in time in proportion to it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = [place for place, character in enumerate(text) if not character.isspace()]
        self._bare = "".join(text[place] for place in self._at)

    def places(self, literal: str) -> list[tuple[int, int]]:
        """Where a literal begins and ends that is no part of a longer word."""
        wanted, found = "".join(literal.split()), []
        place = self._bare.find(wanted) if wanted else -1
        while place >= 0:
            begin, end = self._at[place], self._at[place + len(wanted) - 1] + 1
            if not _WORDLIKE.search(self._text[max(begin - 1, 0) : begin] + self._text[end : end + 1]):
                found.append((begin, end))
            place = self._bare.find(wanted, place + 1)
        return found

    def tells(self, pair: IOPair) -> bool:
        """Whether the output of a pair stands closely behind its input."""
        begins = [begin for begin, _ in self.places(pair.output)]
        for _, end in self.places(pair.input):
            next_one = bisect_left(begins, end)
            if next_one < len(begins) and begins[next_one] - end <= _MAX_DISTANCE:
                return True
        return False


def _returns_argument(arguments: Sequence[tuple[Any, ...]], outputs: Sequence[object]) -> bool:
    """Whether one and the same argument, or all of them as a tuple, is the output of every pair; a copy is the same."""
    wanted = [_canonical_list(output) for output in outputs]
    fewest = min(map(len, arguments))
    if fewest > 1 and all(_canonical_list(given) == want for given, want in zip(arguments, wanted, strict=True)):
        return True
    return any(
        all(_canonical_list(given[place]) == want for given, want in zip(arguments, wanted, strict=True))
        for place in range(fewest)
    )


def _canonical_list(value: Any) -> str:
    """A text that is equal for equal values, where a list is as good as a tuple."""
    return canonical_text([*value]) if type(value) is tuple else canonical_text(value)


def _is_lookup_table(tree: ast.Module, arguments: Sequence[tuple[Any, ...]], outputs: Sequence[object]) -> bool:
    """Whether a table in the program has all inputs but one and little else, and the program has their outputs."""
    tree = _SplitExpander().visit(copy.deepcopy(tree))
    literals = [value for node in _bounded_walk(tree) if isinstance(node, ast.expr) for value in _literal_values(node)]
    known = {*map(_canonical_tuples, literals)}
    wanted = [_canonical_tuples(output) for output in outputs]
    forms = [{_canonical_tuples(given), *map(_canonical_tuples, given)} for given in arguments]
    for keys, closed in _tables(tree):
        present = {form for key in keys for form in key}
        hits = sum(bool(form & present) and (closed or output in known) for form, output in zip(forms, wanted, strict=True))
        if _covers(hits, len(wanted), len(keys)):
            return True
    for table in literals:
        if isinstance(table, list | tuple | str):
            placed = {_canonical_tuples(place): _canonical_tuples(item) for place, item in enumerate(table)}
            hits = sum(
                placed.get(_canonical_tuples(given[0])) == output
                for given, output in zip(arguments, wanted, strict=True)
                if given
            )
            if _covers(hits, len(wanted), len(table)):
                return True
    return False


class _SplitExpander(ast.NodeTransformer):
    """Writes out the words of `'a b c'.split()`."""

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
    """The nodes of a program, the outer ones first, as far as `_MAX_NODES` goes."""
    left = _MAX_NODES
    for node in ast.walk(tree):
        left -= sum(1 for _ in ast.walk(node)) if isinstance(node, ast.expr) else 0
        if left < 0:
            return
        yield node


def _covers(hits: int, pairs: int, keys: int) -> bool:
    """Whether a table with so many keys was made for these pairs: it answers all but one, and three of four keys are theirs."""
    return hits >= max(2, pairs - 1) and 4 * hits >= 3 * keys


def _canonical_tuples(value: Any) -> str:
    """A text that is equal for equal values, where lists are tuples."""
    return canonical_text(value).replace("[", "(").replace("]", ")")


_Keys = set[frozenset[str]]
"""Keys of a table, each with all that it may stand for."""


def _tables(tree: ast.Module) -> Iterator[tuple[_Keys, bool]]:
    """The keys of everything that may be a table: dicts, rows of keys or of pairs, and what values are compared with.

    With each, whether it is closed: its values are computed from nothing but themselves.
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
    """The value of an expression that is a literal; of a text also what it is a literal of, as for keys made by `str`."""
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
