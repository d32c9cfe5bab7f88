"""Which questions nobody could pass under the settings of a run, found before anything is sampled.

Two things are looked at: whether a program may give what a test expects (`verify.output_kb`), and whether the prompt reaches
the student whole (`max_prompt_tokens`). Nothing is executed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import BadInput
from events.facts.values import IOPair, Question, Sampling
from events.pure.literal import TooLarge, read, write
from roles.prompt import Prompts
from roles.questions.question_set import QuestionList, QuestionSet

if TYPE_CHECKING:
    from roles.chat_encoding import ChatEncoding

AROUND: Final = 256
"""Tokens that a chat template may put around a prompt; with fewer to spare, tokens are counted exactly."""
MARKS: Final = 2
"""Tokens that begin or end a prompt that is sent as it is."""
NAMED: Final = 3
"""Most questions that are named in one sentence."""


@dataclass(frozen=True)
class PromptWindow:
    """How much of a prompt a model is shown."""

    prompts: Prompts
    limit: int
    """`max_prompt_tokens`."""
    weights: Callable[[], Path]
    """The folder with the tokenizer, asked for only where a prompt might be too long."""

    def exceeded(self, question: Question) -> str | None:
        """Why the question's prompt does not fit; None where it does."""
        text, system = self.prompts.induction(question).text, self.prompts.system
        whole, room = (system or "") + text, self.limit - (MARKS if system is None else AROUND)
        # No tokenizer makes more tokens than there are bytes.
        if len(whole.encode()) <= room or len(self._quick.encode(whole).ids) <= room:
            return None
        from roles.model import GenerationRequest

        tokens = len(self._exact.encode(GenerationRequest(text, 1, 0, Sampling(), system)))
        return f"its prompt of {tokens} tokens would be cut, max_prompt_tokens is {self.limit}" if tokens > self.limit else None

    @cached_property
    def _quick(self) -> Any:
        from tokenizers import Tokenizer

        file = self.weights() / "tokenizer.json"
        if not file.is_file():
            raise BadInput(
                f"There is no {file.name} in {file.parent}; give a folder that holds a model in Hugging Face format."
            )
        return Tokenizer.from_file(str(file))

    @cached_property
    def _exact(self) -> ChatEncoding:
        from roles.chat_encoding import ChatEncoding

        return ChatEncoding(self.weights(), sys.maxsize)


def unpassable_reason(question: Question, output_kb: int, window: PromptWindow | None = None) -> str | None:
    """Why nobody could pass a question, naming the setting; None where somebody could.

    Args:
        question: the question.
        output_kb: most that a program may print or return for one test, in KiB.
        window: what the student is shown; None: whatever there is.
    """
    for place, pair in enumerate(question.pairs):
        size = _size(question.mode, pair, output_kb << 10)
        if size > output_kb << 10:
            part, number = ("public", place) if place < len(question.public) else ("private", place - len(question.public))
            said = f"more than {output_kb}" if size == sys.maxsize else str(-(-size // 1024))
            return f"{part}.{number}.output takes {said} KiB, verify.output_kb is {output_kb}"
    return None if window is None else window.exceeded(question)


def _size(mode: str, pair: IOPair, room: int) -> int:
    """Bytes that a program has to give at least; `sys.maxsize` where that is only known to be more than there is room for."""
    if mode == "stdin":
        return len("\n".join(line.strip() for line in pair.output.strip().split("\n")).encode())
    # Written out, a literal is at most some times as long as anybody may have noted it.
    if mode == "checks" or 8 * len(pair.output.encode()) <= room:
        return 0
    try:
        return len(write(read(pair.output), room).encode())
    except TooLarge:
        return sys.maxsize


def passable(
    found: QuestionSet, use: str, output_kb: int, window: PromptWindow | None, say: Callable[[str], None]
) -> QuestionSet:
    """The questions of a set that somebody could pass; of the others one sentence is said.

    Args:
        found: the set.
        use: what it is used for, such as `test`.
        output_kb: see `unpassable_reason`.
        window: see `unpassable_reason`.
        say: told which questions are left out, and by which setting.

    Raises:
        BadInput: nobody could pass any of them.
    """
    reasons = {question.id: why for question in found.questions if (why := unpassable_reason(question, output_kb, window))}
    if not reasons:
        return found
    names = {identity: found.names.get(identity, f"question {identity}") for identity in reasons}
    listed = "; ".join(f"{names[identity]}: {why}" for identity, why in list(reasons.items())[:NAMED])
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    told = f"{use}: nobody could pass {len(reasons)} of {len(found.questions)} questions ({listed}{more})"
    if len(reasons) == len(found.questions):
        raise BadInput(f"{told}, so that none is left; raise the setting, or choose another set.")
    say(f"{told}; they are left out, unless the setting is raised")
    return QuestionList(
        found.name,
        tuple(question for question in found.questions if question.id not in reasons),
        {**found.left_out, **{names[identity]: why for identity, why in reasons.items()}},
        found.rules,
        found.names,
    )
