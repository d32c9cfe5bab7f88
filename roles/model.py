"""The contract of a language model: prompts in, completions with token ids and logprobs out.

Law: a reply names the policy that sampled it, and its ids and logprobs are those of sampling; nobody tokenises text
again. A model does not know roles, questions or rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from events.facts.values import Digest, Sampling


@dataclass(frozen=True)
class GenerationRequest:
    """Ask for `count` completions of one prompt."""

    prompt: str
    count: int
    seed: int
    """Same seed, same weights, same batch: same tokens."""
    sampling: Sampling
    system: str | None = None
    """None: the prompt is sent as it is. Else it is a conversation in the tokenizer's chat template: this system message
    (`""`: none), then the prompt as the user's."""


@dataclass(frozen=True)
class Completion:
    """One sampled answer."""

    text: str
    """Decoded without the end token."""
    token_ids: tuple[int, ...]
    """As sampled, the end token included when there was one."""
    logprobs: tuple[float, ...]
    """Natural-log probability of each id under the sampling distribution (after temperature), same length."""
    stop: Literal["end", "text", "length"]
    """Why it ended: by the end token, by one of the sampling's stop texts, or because it had no tokens left."""


@dataclass(frozen=True)
class GenerationReply:
    """All completions of one request."""

    policy: Digest
    """Weights that sampled them."""
    prompt_ids: tuple[int, ...]
    """The prompt as the model saw it (cut from the left when it did not fit)."""
    completions: tuple[Completion, ...]


class Model(Protocol):
    """Generates. Implementations in `roles/models/`."""

    @property
    def policy(self) -> Digest:
        """Digest of the weights that are being served."""
        ...

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        """Answer every request, in order. The whole sequence is one batch.

        Raises:
            ModelError: the model or its server failed; never a property of the text.
        """
        ...

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        """Load other weights and prove that they are in use.

        Raises:
            ModelError: the weights are missing or their digest is not `policy`.
        """
        ...

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Natural-log probability, at temperature 1, of each token but the first after those before it.

        Raises:
            ModelError: the model or its server failed.
        """
        ...

    async def sleep(self) -> None:
        """Give memory back until something is asked again, where that is set; nothing is asked while weights are learned."""
        ...

    async def close(self) -> None:
        """Let go of everything, servers that were started for it included. Safe to call twice."""
        ...
