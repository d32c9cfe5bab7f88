"""A model that answers by script: text from a function of the prompt, bytes as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from events.facts.values import Digest
from roles.model import Completion, GenerationReply, GenerationRequest


class BytesEncoding:
    """Bytes as token ids, with 0 as the end."""

    end = 0

    def encode(self, request: GenerationRequest) -> tuple[int, ...]:
        return tuple(request.prompt.encode())

    def encode_text(self, text: str) -> list[int]:
        return list(text.encode())


class ScriptedModel:
    """`say(prompt, seed, index)` is the text of the completion `index` of a request; `batches` counts requests a call."""

    def __init__(self, say: Callable[[str, int, int], str]) -> None:
        self.say = say
        self.policy = Digest("0" * 64)
        self.batches: list[int] = []

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        self.batches.append(len(requests))
        return [
            GenerationReply(self.policy, tuple(request.prompt.encode()), self._completions(request)) for request in requests
        ]

    def _completions(self, request: GenerationRequest) -> tuple[Completion, ...]:
        texts = [self.say(request.prompt, request.seed, index) for index in range(request.count)]
        return tuple(Completion(text, tuple(text.encode()), (-0.5,) * len(text.encode()), "end") for text in texts)

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        self.policy = policy

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        return (-0.5,) * (len(tokens) - 1)

    @property
    def encoding(self) -> BytesEncoding:
        return BytesEncoding()

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        return tuple(-0.5 * len(ids) for ids in continuations)

    async def sleep(self) -> None: ...

    async def close(self) -> None: ...
