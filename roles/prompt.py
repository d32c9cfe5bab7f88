"""Prompts: text files with `{{field}}` marks, filled in one pass.

Law: a rendered prompt names the hash of the file it came from, and inserted text is never interpreted: a mark inside
a statement that a model wrote stays as it is. It knows no roles and no models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.errors import BadInput
from events.values import Axis, Pair, Question

NAMES: Final = ("induction", "deduction", "abduction", "easy", "hard")
"""The prompts that a folder must hold, each as `NAME.md`."""
PROMPTS: Final = Path(__file__).parent / "prompts"
"""The folders that ship with the project: `pocket` and `base`."""
_MARK: Final = re.compile(r"\{\{([a-z_]+)\}\}")


@dataclass(frozen=True)
class Rendered:
    """A prompt that is ready to be sent."""

    text: str
    template: str
    """SHA-256 (hex) of the prompt file."""


class Prompts:
    """The five prompts of a folder.

    Raises:
        BadInput: the folder lacks one of them.
    """

    def __init__(self, folder: Path) -> None:
        self._templates: dict[str, Rendered] = {}
        for name in NAMES:
            path = folder / f"{name}.md"
            try:
                content = path.read_bytes()
                text = content.decode()
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"Prompt file {path} cannot be read ({error}); a folder holds {NAMES} as .md") from error
            self._templates[name] = Rendered(text, hashlib.sha256(content).hexdigest())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all prompt files."""
        return hashlib.sha256("".join(self._templates[name].template for name in NAMES).encode()).hexdigest()

    def render(self, name: str, **fields: str) -> Rendered:
        """The prompt `name` with its marks filled.

        Raises:
            BadInput: there is no such prompt, or it asks for a field that was not given.
        """
        if name not in self._templates:
            raise BadInput(f"There is no prompt {name!r}; choose one of {NAMES}")
        template = self._templates[name]
        missing = set(_MARK.findall(template.text)) - set(fields)
        if missing:
            raise BadInput(f"Prompt {name!r} needs {sorted(missing)}, which was not given; edit its file")
        return Rendered(_MARK.sub(lambda mark: fields[mark[1]], template.text), template.template)

    def induction(self, question: Question) -> Rendered:
        """Ask for the program, with the statement and the public pairs."""
        return self.render("induction", statement=question.statement, pairs=show_pairs(question), entry=question.entry)

    def deduction(self, program: str, pair: Pair) -> Rendered:
        """Ask for the output of a pair."""
        return self.render("deduction", program=program, input=pair.input)

    def abduction(self, program: str, pair: Pair) -> Rendered:
        """Ask for an input that gives the output of a pair."""
        return self.render("abduction", program=program, output=pair.output)

    def easy(self, goalpost: Question, axis: Axis) -> Rendered:
        """Ask the teacher for a lemma of a goalpost; the goalpost's program is not shown."""
        return self.render("easy", statement=goalpost.statement, pairs=show_pairs(goalpost), axis=axis)

    def hard(self, lemma: Question, axis: Axis) -> Rendered:
        """Ask the teacher for a lift of a lemma, which it sees with its program."""
        return self.render("hard", statement=lemma.statement, program=lemma.program or "", pairs=show_pairs(lemma), axis=axis)


def show_pairs(question: Question) -> str:
    """The public pairs as text, one call a line; for programs that read text, input and output one after the other."""
    return "\n".join(_show(question.entry, question.mode, question.public))


def _show(entry: str, mode: str, pairs: Sequence[Pair]) -> list[str]:
    if mode == "stdin":
        return [f"Input:\n{p.input}\nOutput:\n{p.output}" for p in pairs]
    name = entry.rpartition(".")[2]
    return [f"{name}({p.input}) == {p.output}" for p in pairs]
