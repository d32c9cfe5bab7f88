"""What a policy's weights say of a fixed text, so that weights that are served can be told from others.

Law: the tokens are the policy's own for that text, and the logprobs those of the weights in memory, in the arithmetic that they
learn in. Weights in parts are put together by all processes. It appends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import TrainerError
from events.facts.types import PolicyProbed
from graph.settings.config import LearnSettings
from trainer.learn.checkpoint import LoadedWeights
from trainer.parallel import fsdp

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEXT: Final = """def tides(hours, period=12):
    return [hour for hour in hours if hour % period == 0]

A tide table is a promise about the moon: every harbour keeps one, and few sailors check it twice.
"""
"""A program and prose, because policies write both."""
MAX_TOKENS: Final = 64
"""Tokens of it that are asked for, at most."""


def probe(weights: LoadedWeights, learn: LearnSettings) -> PolicyProbed:
    """The probe of these weights, with their adapter if they have one.

    Raises:
        TrainerError: the tokenizer makes less than two tokens of the text.
    """
    tokens = tuple(weights.tokenizer(TEXT, verbose=False)["input_ids"][:MAX_TOKENS])
    if len(tokens) < 2:
        raise TrainerError(f"The tokenizer in {weights.folder} makes {len(tokens)} tokens of a program; give the model its own")
    if weights.adapter is not None:
        weights.adapter.activate()
    return PolicyProbed(digest=weights.digest, tokens=tokens, logprobs=_logprobs(weights.model, tokens, learn))


def _logprobs(model: PreTrainedModel, tokens: Sequence[int], learn: LearnSettings) -> tuple[float, ...]:
    import torch

    ids = torch.tensor([tokens], device=model.device)
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=learn.precision == "bfloat16"):
        output: Any = model(input_ids=ids, use_cache=False)
    fsdp.reshard(model)
    found = torch.log_softmax(output.logits[0, :-1].float(), dim=-1).gather(1, ids[0, 1:, None])
    return tuple(found[:, 0].tolist())
