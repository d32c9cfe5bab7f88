"""Encodes requests as token ids, the same for every model that samples.

Guarantees: untrusted text never becomes a special token; in a conversation only the chat template itself writes special tokens.
A prompt that is too long loses the beginning of its content and nothing of the template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from events.facts.errors import BadInput, ModelError
from events.text.safe_text import one_line
from roles.model import GenerationRequest

_SYSTEM: Final = "c2f0a6c9-gasp-system"
_CONTENT: Final = "c2f0a6c9-gasp-content"
"""Placeholders for the texts while the template is rendered, so that no template sees, trims or parses untrusted text."""


class ChatEncoding:
    """The tokenizer of a weights folder, with its chat template.

    Args:
        folder: Weights in Hugging Face format; those of its base for an adapter.
        limit: Longer prompts are cut from the left.

    Raises:
        ModelError: the folder holds no tokenizer.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        from transformers import AutoTokenizer

        self._folder = folder
        self._limit = limit
        # Without this file transformers makes up an empty tokenizer.
        if not (folder / "tokenizer.json").is_file():
            raise ModelError(
                f"There is no tokenizer.json in {folder}; give a folder that holds a model in Hugging Face format."
            )
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            ends = _end_token_ids(folder, self._tokenizer)
            self.ends = frozenset(ends)
            """Ids that end a completion: those of the generation config and the tokenizer's own."""
            self.end: int | None = next(iter(ends), None)
            """The id that ends a completion where it is given: the first of the generation config, else the tokenizer's own."""
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"Tokenizer in {folder} cannot be loaded ({error}); is the folder whole?") from error
        self._around = cache(self._render)

    def encode(self, request: GenerationRequest) -> tuple[int, ...]:
        """The ids [P] of a prompt, cut to the limit; BadInput without a usable chat template, or if the limit is too low."""
        if request.system is None:
            return self._plain(request.prompt)
        head, tail = self._around(request.system)
        budget = self._limit - len(head) - len(tail)
        if budget <= 0:
            raise BadInput(
                f"The conversation around a prompt takes {len(head) + len(tail)} tokens, but max_prompt_tokens is "
                f"{self._limit}; set it higher."
            )
        return (*head, *self.encode_text(request.prompt)[-budget:], *tail)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids [T], special tokens included."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _plain(self, prompt: str) -> tuple[int, ...]:
        ids = self._tokenizer(prompt, split_special_tokens=True, verbose=False)["input_ids"]
        begin = ids[: len(ids) > self._limit and ids[0] == self._tokenizer.bos_token_id]
        ids = [*begin, *ids[-self._limit :][len(begin) :]] or sorted(self.ends)[:1]
        if not ids:
            raise BadInput(f"The prompt is empty, and the tokenizer in {self._folder} has no end token to stand for it.")
        return tuple(ids)

    def encode_text(self, text: str, *, special: bool = False) -> list[int]:
        """The ids [T] of a text inside a prompt or a completion; markers in it become special tokens only if `special`."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special, verbose=False)[
            "input_ids"
        ]
        return ids

    def _render(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after the content of a conversation with this system message."""
        from jinja2 import TemplateError

        if self._tokenizer.chat_template is None:
            raise BadInput(
                f"The tokenizer in {self._folder} has no chat template, so it holds no conversations; "
                "set prompts to one for base models, or model to an instruct model."
            )
        messages = [{"role": "system", "content": _SYSTEM}] if system else []
        messages.append({"role": "user", "content": _CONTENT})
        try:
            whole = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError) as error:
            raise BadInput(
                f"The chat template in {self._folder} refuses a {'system message' if system else 'conversation'} "
                f"({one_line(str(error), 200)}); set prompts to one for base models."
            ) from error
        before, _, tail = whole.partition(_CONTENT)
        head, _, rest = before.partition(_SYSTEM)
        if whole.count(_CONTENT) != 1 or whole.count(_SYSTEM) != bool(system):
            raise BadInput(
                f"The chat template in {self._folder} does not write each message once; set prompts to one for base models."
            )
        middle = [*self.encode_text(system), *self.encode_text(rest, special=True)] if system else []
        return (*self.encode_text(head, special=True), *middle), tuple(self.encode_text(tail, special=True))


def _end_token_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    file = folder / "generation_config.json"
    config = json.loads((file if file.exists() else folder / "config.json").read_text())
    eos = config.get("eos_token_id")
    ends = eos if isinstance(eos, list) else [eos]
    return tuple(dict.fromkeys(end for end in (*ends, tokenizer.eos_token_id) if end is not None))
