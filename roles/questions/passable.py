"""Finds questions that no attempt could pass under a run's settings, before anything is sampled.

Two limits are checked: the size of expected outputs (`verify.output_kb`) and of the prompt (`max_prompt_tokens`).
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
from roles.prompt import Prompts, Rendered
from roles.questions.question_set import QuestionList, QuestionSet

if TYPE_CHECKING:
    from roles.chat_encoding import ChatEncoding

AROUND: Final = 256
"""Most tokens that a chat template is expected to add; closer to the limit, tokens are counted exactly."""
MARKS: Final = 2
"""Tokens that may begin and end a plain prompt."""
NAMED: Final = 3
"""Most questions that one message names."""


@dataclass(frozen=True)
class PromptWindow:
    """Checks whether prompts fit into a model's window."""

    prompts: Prompts
    limit: int
    weights: Callable[[], Path]
    """Returns the folder with the tokenizer; called only if a prompt might be too long."""
    render: Callable[[Question], Rendered] | None = None
    """Makes the prompt; None: that of an answer."""

    def exceeded(self, question: Question) -> str | None:
        """Why the question's prompt does not fit; None where it does."""
        text, system = (self.render or self.prompts.induction)(question).text, self.prompts.system
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
    """Why no attempt could pass a question, with the setting's name; None if one could.

    Args:
        question: the question.
        output_kb: most that a program may print or return for one test, in KiB.
        window: checks the length of prompts; None: they are not checked.
    """
    for place, pair in enumerate(question.pairs):
        size = _size(question.mode, pair, output_kb << 10)
        if size > output_kb << 10:
            part, number = ("public", place) if place < len(question.public) else ("private", place - len(question.public))
            needed = f"more than {output_kb}" if size == sys.maxsize else str(-(-size // 1024))
            return f"{part}.{number}.output takes {needed} KiB, verify.output_kb is {output_kb}"
    return None if window is None else window.exceeded(question)


def _size(mode: str, pair: IOPair, room: int) -> int:
    """Fewest bytes that a program has to output; `sys.maxsize` where they are only known to be more than `room`."""
    if mode == "stdin":
        return len("\n".join(line.strip() for line in pair.output.strip().split("\n")).encode())
    # The canonical text of a literal is at most 8 times as long as the given one.
    if mode == "checks" or 8 * len(pair.output.encode()) <= room:
        return 0
    try:
        return len(write(read(pair.output), room).encode())
    except TooLarge:
        return sys.maxsize


def passable(
    questions: QuestionSet, use: str, output_kb: int, window: PromptWindow | None, on_message: Callable[[str], None]
) -> QuestionSet:
    """The questions of a set that an attempt could pass (see `unpassable_reason`); BadInput if there is none.

    `on_message` gets one sentence about those that are left out, which names the set's `use`, such as `test`.
    """
    reasons = {question.id: why for question in questions.questions if (why := unpassable_reason(question, output_kb, window))}
    if not reasons:
        return questions
    names = {identity: questions.names.get(identity, f"question {identity}") for identity in reasons}
    listed = "; ".join(f"{names[identity]}: {why}" for identity, why in list(reasons.items())[:NAMED])
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    message = f"{use}: no attempt could pass {len(reasons)} of {len(questions.questions)} questions ({listed}{more})"
    if len(reasons) == len(questions.questions):
        raise BadInput(f"{message}, so that none is left; raise the setting, or choose another set.")
    on_message(f"{message}; they are left out, unless the setting is raised")
    return QuestionList(
        questions.name,
        tuple(question for question in questions.questions if question.id not in reasons),
        {**questions.left_out, **{names[identity]: why for identity, why in reasons.items()}},
        questions.rules,
        questions.names,
    )
