"""Rejects proposed questions from which nothing can be learned, by their text and their test cases; nothing is executed."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from keyword import iskeyword
from typing import Any, Final

from events.facts.values import IOPair, Question
from events.pure.literal import outline, outline_arguments, write
from roles.judging.lookup_table import is_lookup_table
from sandbox.compare import canonical_text

MAX_PROMPT_CHARACTERS: Final = 16_000
"""Most characters of statement, program and test cases together, since some prompts show all of them."""
_WORDLIKE: Final = re.compile(r"\w")
_WORD: Final = re.compile(r"[^\W\d_]{2}")
_CONTROL: Final = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|<\|im_(?:start|end)|<</?SYS>>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK|sMASK)\]"
    r"|</?(?:s|think|answer|bos|eos|pad|unk|sop|eop|start_of_turn|end_of_turn|tool_call|tool_response|fim_(?:prefix|middle|suffix|pad)"
    r"|file_sep|repo_name|reserved_\d+|unused\d+)>"
    r"|^[ \t]*(?:User|Assistant|System|Human)[ \t]*:|^[ \t]*#+[ \t]*(?:Instruction|Response|User|Assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""Markers between the turns of a conversation, in chat templates and in our own prompts."""
_MIN_LINE_CHARACTERS: Final = 10
"""Shorter lines of a program are ignored."""
_MIN_OUTPUT_CHARACTERS: Final = 2
"""Outputs with fewer characters on average are not looked for in a statement."""
_MAX_CONSTANT_CHARACTERS: Final = 1 << 20
"""Most characters of a literal; no program of the allowed size has a longer one."""
_COMMON_OUTPUTS: Final = frozenset({"True", "False", "None"})
_JUMPS: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_MAX_DISTANCE: Final = 40
"""Most characters between an input and its output in a statement that gives both."""


def text_objection(statement: str, program: str, inputs: Sequence[str]) -> str | None:
    """Why the texts of a proposal cannot be shown in a prompt; None if they can."""
    if not _WORD.search(statement):
        return "the statement has no words"
    for name, text in (("statement", statement), ("program", program), ("inputs", "\n".join(inputs))):
        if marker := _CONTROL.search(text):
            return f"the {name} has {marker[0].strip()}, which stands between the turns of a conversation"
    return None


def degenerate_reason(question: Question, tree: ast.Module) -> str | None:
    """Why nothing can be learned from a question with the outputs of its program; None if something can."""
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
    if is_lookup_table(tree, arguments, outputs):
        return "the program looks its outputs up in a table of its own inputs"
    return None


def _unreachable(tree: ast.Module) -> bool:
    """Whether a statement follows a return, raise, break or continue, or a condition is constant."""
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if isinstance(statements, list) and any(isinstance(statement, _JUMPS) for statement in statements[:-1]):
                return True
        # A condition without names is constant.
        if isinstance(node, ast.If) and not any(
            isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node.test)
        ):
            return True
    return False


def _statement_contains_program(statement: str, tree: ast.Module) -> bool:
    """Whether the statement contains half of the program's lines, up to whitespace, or up to whitespace and names."""
    squeezed = re.sub(r"\s", "", statement)
    bare = ast.parse(ast.unparse(tree))
    for node in ast.walk(bare):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and len(node.body) > 1 and ast.get_docstring(node) is not None:
            del node.body[0]
    shapes = {_shape(line) for line in statement.split("\n")}
    contained, total = 0, 0
    for written in ast.unparse(bare).split("\n"):
        line = re.sub(r"\s", "", written)
        # A statement may contain signatures.
        if len(line) >= _MIN_LINE_CHARACTERS and not written.lstrip().startswith(("import ", "from ", "def ", "class ")):
            total += len(line)
            contained += len(line) * (line in squeezed or line.replace("'", '"') in squeezed or _shape(written) in shapes)
    return 2 * contained > total


def _shape(line: str) -> str:
    """A line of a program without whitespace, with `_` for each name."""
    return re.sub(r"\s", "", re.sub(r"[^\W\d]\w*", lambda word: word[0] if iskeyword(word[0]) else "_", line))


def _statement_contains_outputs(question: Question, tree: ast.Module) -> bool:
    """Whether the statement contains most private test cases, or all private outputs.

    Constants of the program, such as labels, do not count, since the statement must name them; nor do outputs of public cases.
    """
    statement = _StatementText(question.statement)
    contained = [pair for pair in question.private if statement.contains_pair(pair)]
    if 2 * len(contained) > len(question.private):
        return True
    allowed = _COMMON_OUTPUTS.union(pair.output for pair in question.public).union(_constants(tree))
    outputs = {pair.output for pair in question.private} - allowed
    are_distinctive = len(outputs) > 1 and sum(map(len, outputs)) >= _MIN_OUTPUT_CHARACTERS * len(outputs)
    return are_distinctive and all(statement.find(output) for output in outputs)


def _constants(tree: ast.Module) -> Iterator[str]:
    """String and number constants of a program, negative numbers included, in the form of outputs."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | int() | float() as value):
                yield write(value, _MAX_CONSTANT_CHARACTERS)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                yield write(-value, _MAX_CONSTANT_CHARACTERS)


class _StatementText:
    """A text that finds literals whatever their whitespace, in time linear in the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._positions = [position for position, character in enumerate(text) if not character.isspace()]
        self._squeezed = "".join(text[position] for position in self._positions)

    def find(self, literal: str) -> list[tuple[int, int]]:
        """Begins and ends of a literal where it is not part of a longer word."""
        wanted, spans = "".join(literal.split()), []
        index = self._squeezed.find(wanted) if wanted else -1
        while index >= 0:
            begin, end = self._positions[index], self._positions[index + len(wanted) - 1] + 1
            if not _WORDLIKE.search(self._text[max(begin - 1, 0) : begin] + self._text[end : end + 1]):
                spans.append((begin, end))
            index = self._squeezed.find(wanted, index + 1)
        return spans

    def contains_pair(self, pair: IOPair) -> bool:
        """Whether the output of a test case follows closely after its input."""
        begins = [begin for begin, _ in self.find(pair.output)]
        for _, end in self.find(pair.input):
            following = bisect_left(begins, end)
            if following < len(begins) and begins[following] - end <= _MAX_DISTANCE:
                return True
        return False


def _returns_argument(arguments: Sequence[tuple[Any, ...]], outputs: Sequence[object]) -> bool:
    """Whether the output of every test case equals the same argument, or the tuple of all arguments."""
    wanted = [_canonical_list(output) for output in outputs]
    fewest = min(map(len, arguments))
    if fewest > 1 and all(_canonical_list(values) == output for values, output in zip(arguments, wanted, strict=True)):
        return True
    return any(
        all(_canonical_list(values[index]) == output for values, output in zip(arguments, wanted, strict=True))
        for index in range(fewest)
    )


def _canonical_list(value: Any) -> str:
    """The canonical text of a value, where a tuple at the top counts as a list."""
    return canonical_text([*value]) if type(value) is tuple else canonical_text(value)
