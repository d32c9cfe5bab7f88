"""Prompts: folders of text files with `{{field}}` marks, which are filled in one pass.

Guarantees:
- A rendered prompt names the hash of the file that it came from.
- Errors in a folder are reported when it is read.
- Inserted text is never interpreted: a mark inside a statement that a model wrote stays as it is.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from events.facts.errors import BadInput
from events.facts.values import LEVELS, Axis, IOPair, Level, Question, Sampling, Task, Value, canonical
from events.pure.answer_parsing import INPUTS
from events.text.byte_order_mark import refuse_byte_order_mark
from events.text.validation import first_problem
from roles.answer_form import AnswerForm, parse_form
from roles.judging.safety import ALLOWED_MODULES, BANNED_NAMES
from roles.judging.syntax_tree import parse_source
from roles.model import GenerationRequest

SHIPPED_PROMPTS: Final = Path(__file__).parent / "prompts"
"""The folder of the prompt sets that ship with the project."""
PROMPT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "induction": frozenset({"mode", "statement", "pairs", "entry"}),
    "deduction": frozenset({"program", "input"}),
    "abduction": frozenset({"program", "output"}),
    "easy": frozenset({"axis", "statement", "words", "pairs", "inputs", "modules", "banned"}),
    "hard": frozenset({"axis", "statement", "pairs", "inputs", "modules", "banned", "program"}),
    "aimed": frozenset({"axis", "statement", "pairs", "inputs", "modules", "banned", "program", "goalpost"}),
    "open": frozenset({"task", "statement", "pairs", "inputs", "modules", "banned", "program", "references"}),
    "unpaired": frozenset({"statement", "entry", "echoes"}),
    "topic": frozenset({"topic", "statement", "pairs", "inputs", "modules", "banned", "program"}),
    "document": frozenset({"level", "document", "inputs", "modules", "banned"}),
    "informed": frozenset({"document", "statement", "entry", "echoes"}),
    "certainty": frozenset(),
    "system": frozenset(),
}
"""The prompts of a set, each in `NAME.md`, with the marks that each may have. `system` is for sets of form `chat` only."""
OPTIONAL_PROMPTS: Final = ("unpaired", "topic", "document", "informed", "certainty")
"""Prompts that a set may lack. They are no part of its digest, so that runs which do not ask them go on."""
PROMPT_NAMES: Final = tuple(name for name in PROMPT_FIELDS if name not in ("system", *OPTIONAL_PROMPTS))
"""The prompts that every set holds."""
ECHOES: Final = 2
"""Calls in the place of pairs."""
_AXES: Final = ("axis", ("io", "function"))
WORD_FIELDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "induction": ("mode", ("function", "class", "stdin", "checks")),
    "easy": _AXES,
    "hard": _AXES,
    "open": ("task", ("induction", "deduction", "abduction")),
    "document": ("level", LEVELS),
}
"""Prompts with a field that takes one of a few words. A set may hold a text for each word, in `NAME.WORD.md`."""
FORM_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "induction": ("program",),
    "deduction": ("output",),
    "abduction": ("input",),
    "proposal": ("program", "message", "inputs"),
    "hard": ("program", "message", "inputs"),
}
"""Answer forms that a set may hold, each in `NAME.form.md`, with their marks; `proposal` is for all prompts of the teacher, or
for all but lifts where there is one for `hard`."""
FORM_GIVEN: Final[Mapping[str, tuple[str, ...]]] = {"induction": ("beginning",), "hard": ("statement",)}
"""Marks that may stand before the first mark of an answer form; what fills them is given."""
_SHARED: Final = {"aimed": "hard"}
"""Prompts that share the word texts of another prompt."""
_MARK: Final = re.compile(r"\{\{(\w+)\}\}")
_TEST_LINES: Final = re.compile(r"(?:^.*:[ \t]*\n)?(?:^assert .*(?:\n|\Z))+", re.MULTILINE)
_VERSION: Final = re.compile(r"version: ([1-9][0-9]*)\r?\n")


class PromptSetFormat(Value):
    """The `set.toml` of a prompt set: how its prompts are sent."""

    form: Literal["plain", "chat"]
    """`plain`: prompts are sent as they are. `chat`: as the user's message in the tokenizer's chat template, after the system
    message in `system.md`."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a completion, besides the model's end token; they stay in it."""
    of: Annotated[str, Field(exclude_if=lambda name: not name)] = ""
    """The shipped set that has the files which are not in this folder."""


@dataclass(frozen=True)
class Template:
    """A prompt with its marks."""

    text: str
    version: str
    """The version of its file; with a word text, both versions with a dot between."""
    hash: str
    """SHA-256 (hex) of its file; with a word text or an answer form, of the files' hashes in a row."""
    form: AnswerForm = ()
    """The form of its completions; empty where the model writes them whole."""


@dataclass(frozen=True)
class Rendered:
    """A prompt whose marks are filled."""

    text: str
    template: str
    form: AnswerForm = ()


class Prompts:
    """A prompt set: the prompts of a folder; BadInput if a file is missing, unknown or wrong."""

    def __init__(self, folder: Path) -> None:
        self.rules: Final = _rules(folder / "set.toml")
        """How prompts are sent."""
        templates = _templates(folder, self.rules)
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
        return not {"statement", "pairs", "program"}.isdisjoint(_MARK.findall(self.templates["topic"].text))

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
        choice = WORD_FIELDS.get(_SHARED.get(name, name))
        word = fields[choice[0]] if choice else ""
        template = self.templates.get(f"{name}.{word}") or self.templates[name]

        def filled(text: str) -> str:
            return _MARK.sub(lambda mark: fields[mark[1]], text)

        form = tuple(part.model_copy(update={"given": filled(part.given)}) for part in template.form)
        return Rendered(filled(template.text), template.hash, form)


def shipped_sets() -> list[str]:
    """Names of the sets that ship with the project."""
    return sorted(path.name for path in SHIPPED_PROMPTS.iterdir() if path.is_dir())


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


def _rules(path: Path) -> PromptSetFormat:
    try:
        refuse_byte_order_mark(path)
        return PromptSetFormat.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        key, problem = first_problem(error)
        raise BadInput(f"{path}, key {key}: {problem}; it has the keys {', '.join(PromptSetFormat.model_fields)}.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f'{path} cannot be read ({error}); a prompt set has one that says form = "plain" or "chat".') from error


def _templates(folder: Path, rules: PromptSetFormat) -> dict[str, Template]:
    """All prompts of a folder by name; those with word texts once for each word, as `NAME.WORD`."""
    chat, shared = rules.form == "chat", [SHIPPED_PROMPTS / rules.of] if rules.of else []
    files = {path.stem: _read(path) for place in (*shared, folder) for path in sorted(place.glob("*.md"))}
    if shared and not chat:
        files.pop("system", None)
    forms = {name: files.pop(f"{name}.form") for name in FORM_FIELDS if f"{name}.form" in files}
    names = (*PROMPT_NAMES, *(name for name in OPTIONAL_PROMPTS if name in files), *(("system",) if chat else ()))
    parts = {f"{name}.{word}" for name, (_, words) in WORD_FIELDS.items() for word in words}
    if wrong := sorted(set(files) - parts - set(names)) or sorted(set(names) - set(files)):
        what = "is no prompt of such a set" if wrong[0] in files else "is missing"
        raise BadInput(f"Prompt file {folder / wrong[0]}.md {what}; a set holds {', '.join(names)}, each as NAME.md.")
    templates: dict[str, Template] = {}
    for name in names:
        owner = _SHARED.get(name, name)
        field, words = WORD_FIELDS.get(owner, ("", ()))
        if not any(f"{owner}.{word}" in files for word in words):
            templates[name] = files[name]
        for word in words if name not in templates else ():
            part = f"{owner}.{word}"
            if part not in files:
                raise BadInput(
                    f"Prompt file {folder / part}.md is missing: {owner} has texts for some words; write one for each."
                )
            templates[f"{name}.{word}"] = _joined(folder / f"{name}.md", files[name], field, files[part])
    for name, template in templates.items():
        _check(folder, name, template)
        kind = name.partition(".")[0]
        owner = {"unpaired": "induction", "informed": "induction", **_SHARED}.get(kind, kind)
        owner = owner if owner in forms or owner in ("induction", "deduction", "abduction") else "proposal"
        if owner in forms and kind not in ("system", "certainty"):
            templates[name] = _with_form(template, folder / f"{owner}.form.md", forms[owner], owner)
    return {name: _without_last_line_end(template) for name, template in templates.items()} if chat else templates


def _read(path: Path) -> Template:
    try:
        refuse_byte_order_mark(path)
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Prompt file {path} cannot be read: {error}; give UTF-8 text.") from error
    version = _VERSION.match(text)
    if version is None:
        raise BadInput(f"Prompt file {path} says no version; begin it with a line such as `version: 1`, which is not sent.")
    return Template(text[version.end() :], version[1], hashlib.sha256(content).hexdigest())


def _joined(path: Path, whole: Template, field: str, part: Template) -> Template:
    mark = f"{{{{{field}}}}}"
    if mark not in whole.text:
        raise BadInput(f"Prompt file {path} lacks the mark {mark}, for whose words there are texts; add it or remove them.")
    text = whole.text.replace(mark, part.text.rstrip("\n"))
    return Template(text, f"{whole.version}.{part.version}", hashlib.sha256((whole.hash + part.hash).encode()).hexdigest())


def _with_form(template: Template, path: Path, form: Template, owner: str) -> Template:
    digest = hashlib.sha256((template.hash + form.hash).encode()).hexdigest()
    version = f"{template.version}+{form.version}"
    return replace(
        template, form=parse_form(path, form.text, FORM_FIELDS[owner], FORM_GIVEN.get(owner, ())), version=version, hash=digest
    )


def _check(folder: Path, name: str, template: Template) -> None:
    fields = PROMPT_FIELDS[name.partition(".")[0]]
    if unknown := sorted(set(_MARK.findall(template.text)) - fields):
        has = ", ".join(f"{{{{{field}}}}}" for field in sorted(fields)) or "none"
        raise BadInput(f"Prompt {name} of {folder} has the mark {{{{{unknown[0]}}}}}, which nothing fills; it may have {has}.")


def _without_last_line_end(template: Template) -> Template:
    """The template without its last line end, which a chat template does not expect."""
    return replace(template, text=template.text.removesuffix("\n"))
