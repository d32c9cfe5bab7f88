"""A completion while it is sampled in this process: its tokens so far, and the parts of its answer form that are given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from events.facts.values import Sampling

Stop = Literal["end", "text", "length"]
"""What ends a completion or a part: the end token, a stop text, or want of room."""


@dataclass(frozen=True)
class RowPart:
    """A part of a completion: text that is given, then what the model writes."""

    given: list[int]
    """Ids of the text that begins the part."""
    stops: tuple[str, ...]
    """Texts of which any ends it."""
    ending: list[int]
    """Ids of its own first stop text, which is given where the model ends the part with the end token."""


@dataclass
class SamplingRow:
    """One completion, token by token, with the random numbers that decide it."""

    prompt: tuple[int, ...]
    sampling: Sampling
    uniforms: np.ndarray[Any, np.dtype[np.float64]]
    """Uniform random numbers, one a token [max_tokens]."""
    parts: deque[RowPart]
    """The part that is being sampled, and those that follow; a completion that the model writes whole is one part."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Natural logarithms, 0 for a given token."""
    sampled: list[bool] = field(default_factory=list)
    """Whether the model wrote the token, and was not given it."""
    forced: deque[int] = field(default_factory=deque)
    """Given ids that the model has not read yet."""
    begin: int = 0
    """Index in `ids` at which the model's text in the present part begins."""
    stop: Stop = "length"
    """Why it ended; `length` while it goes on, too."""

    def __post_init__(self) -> None:
        # The first given text is read together with the prompt; the model writes at least one token.
        for token in self.parts[0].given[: self.sampling.max_tokens - 1]:
            self._append(token, 0.0, sampled=False)
        self.begin = len(self.ids)

    @property
    def uniform(self) -> float:
        """The random number that decides the next token."""
        # A finished row stays in its batch for a while, and what it draws then is ignored.
        return float(self.uniforms[min(len(self.ids), len(self.uniforms) - 1)])

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.stop != "length" or len(self.ids) >= self.sampling.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts of which any ends the present part."""
        return self.parts[0].stops

    def take(self, token: int, logprob: float) -> int:
        """Append the sampled token, or instead of it one that is given; returns the one that was appended."""
        if self.forced:
            token = self.forced.popleft()
            self._append(token, 0.0, sampled=False)
            self.begin = len(self.ids)
        else:
            self._append(token, logprob, sampled=True)
        return token

    def end_part(self, stop: Stop) -> int | None:
        """End the part, or the completion with its last one; returns a given id that takes the place of the end token."""
        if stop == "length" or len(self.parts) == 1:
            self.stop = stop
            return None
        ended = self.parts.popleft()
        self.forced.extend(self.parts[0].given if stop == "text" else [*ended.ending, *self.parts[0].given])
        if stop == "text":
            return None
        del self.ids[-1], self.logprobs[-1], self.sampled[-1]
        return self.take(0, 0.0)

    def _append(self, token: int, logprob: float, *, sampled: bool) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.sampled.append(sampled)
