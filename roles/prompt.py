"""Prompts: the templates of a prompt set, whose marks `{{field}}` are filled in one pass.

Guarantees:
- A rendered prompt names the hash of the template that it came from.
- Inserted text is never interpreted: a mark inside a statement that a model wrote stays as it is.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from events.facts.errors import BadInput
from events.facts.values import Axis, IOPair, Level, Question, Sampling, Task, canonical
from events.pure.answer_parsing import INPUTS
from roles.answer_form import AnswerForm
from roles.judging.safety import ALLOWED_MODULES, BANNED_NAMES
from roles.judging.syntax_tree import parse_source
from roles.model import GenerationRequest
from roles.prompt_set import (
    MARK,
    OPTIONAL_PROMPTS,
    SHARED_WORDS,
    SHIPPED_PROMPTS,
    WORD_FIELDS,
    Template,
    read_format,
    read_templates,
    shipped_sets,
)

ECHOES: Final = 2
"""Calls in the place of pairs."""
_TEST_LINES: Final = re.compile(r"(?:^.*:[ \t]*\n)?(?:^assert .*(?:\n|\Z))+", re.MULTILINE)


@dataclass(frozen=True)
class Rendered:
    """A prompt whose marks are filled."""

    text: str
    template: str
    form: AnswerForm = ()


class Prompts:
    """A prompt set: the prompts of a folder; BadInput if a file is missing, unknown or wrong."""

    def __init__(self, folder: Path) -> None:
        self.rules: Final = read_format(folder / "set.toml")
        """How prompts are sent."""
        templates = read_templates(folder, self.rules)
        self.system: Final = templates["system"].text if "system" in templates else None
        """The system message (`""`: none); None where prompts are sent as they are."""
        self.templates: Final[Mapping[str, Template]] = templates
        """By name, `NAME.WORD` where the set has texts for words."""

    @classmethod
    def named(cls, spec: str) -> Self:
        """The set that the setting `prompts` names, shipped or a folder; BadInput if it is missing or a file of it is wrong."""
        shipped = shipped_sets()
        folder = SHIPPED_PROMPTS / spec if spec in shipped else Path(spec).expanduser()
        if not folder.is_dir():
            names = ", ".join(shipped)
            raise BadInput(f"There is no prompt set {spec!r}: it is neither a folder nor one of {names}; check the name.")
        return cls(folder)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the set's format and the prompts that every set holds."""
        required = ((n, template) for n, template in self.templates.items() if n.partition(".")[0] not in OPTIONAL_PROMPTS)
        hashes = "".join(f"{name}:{template.hash}\n" for name, template in sorted(required))
        return hashlib.sha256(canonical(self.rules) + hashes.encode()).hexdigest()

    def hashes(self, *names: str) -> dict[str, str]:
        """SHA-256 (hex) of each of these prompts that the set has, by name."""
        return {name: template.hash for name, template in self.templates.items() if name.partition(".")[0] in names}

    @property
    def topic_shows_an_example(self) -> bool:
        """Whether the prompt for a topic shows a question on it, because the model cannot read a topic alone."""
        return not {"statement", "pairs", "program"}.isdisjoint(MARK.findall(self.templates["topic"].text))

    def request(self, prompt: Rendered, count: int, seed: int, sampling: Sampling) -> GenerationRequest:
        """Ask for completions of a prompt, with the stop texts of the set and the parts of the prompt's answer form."""
        stop = tuple(dict.fromkeys((*sampling.stop, *self.rules.stop)))
        return GenerationRequest(prompt.text, count, seed, sampling.model_copy(update={"stop": stop}), self.system, prompt.form)

    def induction(self, question: Question) -> Rendered:
        """Ask for the program, with the statement and the public pairs."""
        return self._render(
            "induction",
            mode="class" if question.mode == "function" and "." in question.entry else question.mode,
            statement=question.statement_with_context,
            pairs=render_pairs(question),
            entry=question.entry,
            beginning=_beginning(question),
        )

    def unpaired(self, question: Question) -> Rendered:
        """Ask for the program with the statement alone, whatever pairs there are.

        A set whose model expects pairs has a prompt of its own for this, in which calls give back their argument (`echoes`):
        pairs in form, from which nothing can be learned.
        """
        if "unpaired" not in self.templates:
            return self.induction(question.model_copy(update={"public": (), "private": question.pairs}))
        return self._render("unpaired", **_statement_alone(question))

    def informed(self, question: Question, document: Question) -> Rendered:
        """Ask for the program with the statement and the document that it is about, whatever pairs there are."""
        return self._render("informed", document=document_text(document), **_statement_alone(question))

    def deduction(self, program: str, pair: IOPair) -> Rendered:
        """Ask for the output of a pair."""
        return self._render("deduction", program=program, input=pair.input)

    def abduction(self, program: str, pair: IOPair) -> Rendered:
        """Ask for an input that gives the output of a pair."""
        return self._render("abduction", program=program, output=pair.output)

    def easy(self, goalpost: Question, axis: Axis, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a lemma of a goalpost; the goalpost's program is not shown."""
        words = _TEST_LINES.sub("", goalpost.statement_with_context).strip()
        return self._render("easy", axis=axis, words=words, **_proposed(goalpost, inputs))

    def hard(self, lemma: Question, axis: Axis, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a lift of a lemma, which it sees with its program."""
        return self._render("hard", axis=axis, program=lemma.program_with_context or "", **_proposed(lemma, inputs))

    def aimed(self, lemma: Question, goalpost: Question, axis: Axis, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a lift of a lemma on the way to a goalpost, whose program is not shown."""
        fields = _proposed(lemma, inputs)
        return self._render(
            "aimed", axis=axis, program=lemma.program_with_context or "", goalpost=goalpost.statement_with_context, **fields
        )

    def open(self, references: Sequence[Question], task: Task, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a question unlike the references; `pairs` and `program` are those of the first one."""
        first = references[0]
        shown = "\n\n".join(_reference(question) for question in references)
        return self._render(
            "open", task=task, program=first.program_with_context or "", references=shown, **_proposed(first, inputs)
        )

    def topic(self, topic: str, example: Question, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a question on a topic; only sets whose models cannot read a topic show the example."""
        program = example.program_with_context or ""
        return self._render("topic", topic=topic, program=program, **_proposed(example, inputs))

    def document(self, document: Question, level: Level, inputs: int = INPUTS) -> Rendered:
        """Ask the teacher for a question about a document that is as difficult as the level says."""
        fields = _proposed(document, inputs)
        del fields["statement"], fields["pairs"]
        return self._render("document", level=level, document=document_text(document), **fields)

    def _render(self, name: str, **fields: str) -> Rendered:
        choice = WORD_FIELDS.get(SHARED_WORDS.get(name, name))
        word = fields[choice[0]] if choice else ""
        template = self.templates.get(f"{name}.{word}") or self.templates[name]

        def filled(text: str) -> str:
            return MARK.sub(lambda mark: fields[mark[1]], text)

        form = tuple(part.model_copy(update={"given": filled(part.given)}) for part in template.form)
        return Rendered(filled(template.text), template.hash, form)


def document_text(document: Question) -> str:
    """The text of a document: its statement, and behind it its program if it has one."""
    if document.program is None:
        return document.statement
    return f"{document.statement}\n\n```python\n{document.program_with_context}\n```"


def render_pairs(question: Question) -> str:
    """The public pairs as text: calls with their results, input and output of programs that read text, or checks as code."""
    if question.mode == "stdin":
        return "\n".join(f"Input:\n{p.input}\nOutput:\n{p.output}" for p in question.public)
    if question.mode == "checks":
        return "\n".join(p.input for p in question.public)
    name = question.entry.rpartition(".")[2]
    return "\n".join(f"{name}({p.input}) == {p.output}" for p in question.public)


def _statement_alone(question: Question) -> dict[str, str]:
    echoes = "\n".join(f"{question.entry}({pair.input}) == {pair.input}" for pair in question.pairs[:ECHOES])
    return {"statement": question.statement_with_context, "entry": question.entry, "echoes": echoes}


def _beginning(question: Question) -> str:
    """How a program begins: the statement where it is code up to a function's docstring, else the statement as a docstring."""
    statement = question.statement_with_context
    tree = parse_source(statement)
    if tree is not None and tree.body and isinstance(tree.body[-1], ast.FunctionDef):
        return statement
    quoted = statement.replace('"""', "'''")
    return f'"""\n{quoted}\n"""'


def _proposed(parent: Question, inputs: int) -> dict[str, str]:
    """Fields of every teacher prompt: the question to vary, and what the verifier allows."""
    return {
        "statement": parent.statement_with_context,
        "pairs": render_pairs(parent),
        "inputs": str(inputs),
        "modules": ", ".join(sorted(ALLOWED_MODULES - {"__future__"})),
        "banned": ", ".join(sorted(BANNED_NAMES)),
    }


def _reference(question: Question) -> str:
    return f"{question.statement_with_context}\n\n{render_pairs(question)}\n\n```python\n{question.program_with_context}\n```"
