"""What goes to a vLLM server and comes back: requests for completions and for logprobs, and their responses, validated.

Token ids go out and come back, and servers tokenise nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, ValidationError

from events.facts.errors import ModelError
from events.facts.values import Sampling
from events.text.safe_text import one_line
from events.text.secrets import mask
from events.text.validation import first_problem

COMPLETIONS_PATH: Final = "/v1/completions"
_NEUTRAL_SAMPLING: Final = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "return_token_ids": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}
"""Sent with every request, because a server takes missing values from the model's generation config."""


class _Logprobs(BaseModel):
    token_logprobs: list[Annotated[FiniteFloat, Field(gt=-9999, le=0)]]
    """vLLM writes -9999 for a probability of 0, which no sampled token has."""


class CompletionChoice(BaseModel):
    """One completion of a prompt."""

    token_ids: list[NonNegativeInt]
    prompt_token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    stop_reason: int | str | None = None
    """The stop text or stop token that ended it; None where the server's own end token did."""
    logprobs: _Logprobs


class _CompletionResponse(BaseModel):
    model: str
    choices: list[CompletionChoice]


class _TopLogprobs(BaseModel):
    top_logprobs: list[dict[str, FiniteFloat]]


class _ScoreChoice(BaseModel):
    logprobs: _TopLogprobs


class _ScoreResponse(BaseModel):
    model: str
    choices: list[_ScoreChoice]


_Response = TypeVar("_Response", _CompletionResponse, _ScoreResponse)


def completion_request(
    model: str,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    count: int,
    seed: int,
    max_tokens: int,
    stops: Sequence[str],
    end_tokens: Iterable[int],
) -> dict[str, Any]:
    """A request for `count` completions of a prompt [T], with the logprob of each sampled token."""
    return {
        **_NEUTRAL_SAMPLING,
        "model": model,
        "prompt": list(prompt),
        "n": count,
        "seed": seed % 2**63,
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": stops,
        "stop_token_ids": sorted(end_tokens),
        "logprobs": 0,
    }


def completion_choices(url: str, content: bytes, model: str, prompt: Sequence[int], count: int) -> list[CompletionChoice]:
    """The completions of a response; ModelError if it is not one to such a request."""
    choices = _parse(_CompletionResponse, url, content, model).choices
    if len(choices) != count or any(choice.prompt_token_ids != list(prompt) for choice in choices):
        raise invalid_response(url, "it answers another prompt, or another number of times")
    return choices


def scoring_request(model: str, before: Sequence[int], token: int) -> dict[str, Any]:
    """A request for the logprob of the next token. By sampling: vLLM's prompt logprobs fail on CPUs with adapters."""
    return {
        **_NEUTRAL_SAMPLING,
        "model": model,
        "prompt": list(before),
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": 0,
        "logprob_token_ids": [token],
        "return_tokens_as_token_ids": True,
    }


def scored_logprob(url: str, content: bytes, model: str, token: int) -> float:
    """The logprob of the next token in a response; ModelError if it is not one to such a request."""
    response = _parse(_ScoreResponse, url, content, model)
    try:
        return response.choices[0].logprobs.top_logprobs[0][f"token_id:{token}"]
    except LookupError as error:
        raise invalid_response(url, "it does not score tokens by id") from error


def _parse(kind: type[_Response], url: str, content: bytes, model: str) -> _Response:
    """Validate a response of a server; ModelError if it is not of this kind, or of another model."""
    try:
        response = kind.model_validate_json(content)
    except ValidationError as error:
        field, problem = first_problem(error)
        raise invalid_response(url, f"{field}: {problem}") from error
    if response.model != model:
        raise invalid_response(url, f"it is from the model {response.model}, not {model}")
    return response


def invalid_response(url: str, what: str) -> ModelError:
    """The error that a server answers otherwise than a vLLM server that was started for this."""
    return ModelError(
        f"vLLM at {mask(url)} sends an invalid response ({one_line(what, 300)}); start it as docs/serving.md says."
    )
