"""The interface of a language model: prompts in, completions with token ids and logprobs out.

Guarantees: a reply names the policy that sampled it, and its ids and logprobs are those of sampling; text is never tokenised
again. Not responsible for: roles, questions, rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from events.facts.values import CompletionPart, Digest, Sampling

ROWS_AT_ONCE: Final = 256
"""Completions that a model in this process samples together, at most."""


@dataclass(frozen=True)
class GenerationRequest:
    """A request for `count` completions of one prompt."""

    prompt: str
    count: int
    seed: int
    """Same seed, same weights, same batch: same tokens."""
    sampling: Sampling
    system: str | None = None
    """None: the prompt is sent as it is. Else the request is a conversation in the tokenizer's chat template: this system
    message (`""`: none), then the prompt as the user's message."""
    parts: tuple[CompletionPart, ...] = ()
    """The parts of every completion, one after the other. It ends with the stop text of the last one; where it ends in another
    way before, by its end token for instance, the parts that are left do not follow. Empty: the model writes it whole."""


@dataclass(frozen=True)
class Completion:
    """The tokens that a model wrote for a prompt."""

    text: str
    """Decoded, without the end token."""
    token_ids: tuple[int, ...]
    """[T] as sampled, with the end token if there was one."""
    logprobs: tuple[float, ...]
    """[T] natural-log probability of each id under the sampling distribution, after temperature."""
    stop: Literal["end", "text", "length"]
    """Why it ended: by the end token, by one of the sampling's stop texts, or at the maximal length."""
    sampled: tuple[bool, ...] = ()
    """[T] False for a token that was given, whose logprob is then 0. Empty: all were sampled."""


@dataclass(frozen=True)
class GenerationReply:
    """All completions of one request."""

    policy: Digest
    """Digest of the weights that sampled them."""
    prompt_ids: tuple[int, ...]
    """[P] the prompt as the model saw it, cut from the left if it was too long."""
    completions: tuple[Completion, ...]


class Encoding(Protocol):
    """A model's token ids."""

    @property
    def end(self) -> int | None:
        """The id that ends a completion; None where the model has none."""
        ...

    def encode(self, request: GenerationRequest) -> tuple[int, ...]:
        """The ids [P] of a request's prompt, as the model sees it."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """The ids [T] of a text inside a completion."""
        ...


class Model(Protocol):
    """Generates completions. Implementations are in `roles/models/`."""

    @property
    def policy(self) -> Digest:
        """Digest of the weights that are being served."""
        ...

    @property
    def encoding(self) -> Encoding:
        """Its token ids."""
        ...

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        """One reply per request, in order, as one batch. ModelError if model or server fails, never because of the text."""
        ...

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        """Replace the weights by those in a folder; ModelError if they are missing or their digest is not `policy`."""
        ...

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Score `tokens` [T]: the natural-log probability at temperature 1 of each but the first, given those before it [T-1].

        Raises:
            ModelError: the model or its server failed.
        """
        ...

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Score whole continuations of `before` [T]: the natural-log probability at temperature 1 of each, one a continuation.

        Raises:
            ModelError: the model or its server failed.
        """
        ...

    async def sleep(self) -> None:
        """Release GPU memory until the next request, where that is configured; called while the trainer updates weights."""
        ...

    async def close(self) -> None:
        """Release everything, servers that were started for it included. Safe to call twice."""
        ...
