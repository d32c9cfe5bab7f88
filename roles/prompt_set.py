"""Prompt sets on disk: a folder of text files with `{{field}}` marks, and a `set.toml` that says how they are sent.

Guarantees: errors in a folder are reported when it is read; a template names the hash of the files that it came from.
Not responsible for: filling the marks (`roles.prompt`).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from events.facts.errors import BadInput
from events.facts.values import LEVELS, Value
from events.text.byte_order_mark import refuse_byte_order_mark
from events.text.validation import first_problem
from roles.answer_form import AnswerForm, parse_form

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
SHARED_WORDS: Final[Mapping[str, str]] = {"aimed": "hard"}
"""Prompts that share the word texts of another prompt."""
MARK: Final = re.compile(r"\{\{(\w+)\}\}")
"""A mark in a prompt's text."""
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


def shipped_sets() -> list[str]:
    """Names of the sets that ship with the project."""
    return sorted(path.name for path in SHIPPED_PROMPTS.iterdir() if path.is_dir())


def read_format(path: Path) -> PromptSetFormat:
    """The format in a `set.toml`; BadInput if it is missing or wrong."""
    try:
        refuse_byte_order_mark(path)
        return PromptSetFormat.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        key, problem = first_problem(error)
        raise BadInput(f"{path}, key {key}: {problem}; it has the keys {', '.join(PromptSetFormat.model_fields)}.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f'{path} cannot be read ({error}); a prompt set has one that says form = "plain" or "chat".') from error


def read_templates(folder: Path, rules: PromptSetFormat) -> dict[str, Template]:
    """All prompts of a folder by name; those with word texts once for each word, as `NAME.WORD`.

    Raises:
        BadInput: a file is missing, unknown or wrong.
    """
    files = _read_files(folder, rules)
    forms = {name: files.pop(f"{name}.form") for name in FORM_FIELDS if f"{name}.form" in files}
    templates: dict[str, Template] = {}
    for name in _prompt_names(folder, rules, files):
        templates |= _with_words(folder, name, files)
    for name, template in templates.items():
        _check(folder, name, template)
        if owner := _form_owner(name, forms):
            templates[name] = _with_form(template, folder / f"{owner}.form.md", forms[owner], owner)
    chat = rules.form == "chat"
    return {name: _without_last_line_end(template) for name, template in templates.items()} if chat else templates


def _read_files(folder: Path, rules: PromptSetFormat) -> dict[str, Template]:
    """The text files of a folder by their stems, and those that it takes over from a shipped set."""
    shared = [SHIPPED_PROMPTS / rules.of] if rules.of else []
    files = {path.stem: _read(path) for place in (*shared, folder) for path in sorted(place.glob("*.md"))}
    if shared and rules.form != "chat":
        files.pop("system", None)
    return files


def _prompt_names(folder: Path, rules: PromptSetFormat, files: Mapping[str, Template]) -> tuple[str, ...]:
    """The names of the prompts of a set with these files; BadInput if a file is missing, or is no prompt of such a set."""
    system = ("system",) if rules.form == "chat" else ()
    names = (*PROMPT_NAMES, *(name for name in OPTIONAL_PROMPTS if name in files), *system)
    parts = {f"{name}.{word}" for name, (_, words) in WORD_FIELDS.items() for word in words}
    if wrong := sorted(set(files) - parts - set(names)) or sorted(set(names) - set(files)):
        what = "is no prompt of such a set" if wrong[0] in files else "is missing"
        raise BadInput(f"Prompt file {folder / wrong[0]}.md {what}; a set holds {', '.join(names)}, each as NAME.md.")
    return names


def _with_words(folder: Path, name: str, files: Mapping[str, Template]) -> dict[str, Template]:
    """A prompt by its name; where the set has texts for words, the prompt with each of them, as `NAME.WORD`."""
    owner = SHARED_WORDS.get(name, name)
    field, words = WORD_FIELDS.get(owner, ("", ()))
    if not any(f"{owner}.{word}" in files for word in words):
        return {name: files[name]}
    joined = {}
    for word in words:
        part = f"{owner}.{word}"
        if part not in files:
            raise BadInput(f"Prompt file {folder / part}.md is missing: {owner} has texts for some words; write one for each.")
        joined[f"{name}.{word}"] = _joined(folder / f"{name}.md", files[name], field, files[part])
    return joined


def _form_owner(name: str, forms: Mapping[str, Template]) -> str | None:
    """The name of the answer form of a prompt, among those of the set; None if it has none."""
    kind = name.partition(".")[0]
    if kind in ("system", "certainty"):
        return None
    owner = {"unpaired": "induction", "informed": "induction", **SHARED_WORDS}.get(kind, kind)
    if owner not in forms and owner not in ("induction", "deduction", "abduction"):
        owner = "proposal"
    return owner if owner in forms else None


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
    if unknown := sorted(set(MARK.findall(template.text)) - fields):
        has = ", ".join(f"{{{{{field}}}}}" for field in sorted(fields)) or "none"
        raise BadInput(f"Prompt {name} of {folder} has the mark {{{{{unknown[0]}}}}}, which nothing fills; it may have {has}.")


def _without_last_line_end(template: Template) -> Template:
    """The template without its last line end, which a chat template does not expect."""
    return replace(template, text=template.text.removesuffix("\n"))
