"""Weight-sync probe: the logprobs that a policy's weights give a fixed text, to compare a server's with.

The tokens are the policy's own for that text; the logprobs are computed in the precision that the weights learn in. Where
weights are sharded, all processes have to call it.
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

TEXT: Final = """def every_nth(values, period=12):
    return [value for value in values if value % period == 0]

The function keeps the values that are multiples of the period and leaves out all others, in the order in which they were given.
"""
"""A program and prose, because policies write both."""
MAX_TOKENS: Final = 64
"""Tokens of the text that are scored, at most."""


def probe(weights: LoadedWeights, learn: LearnSettings) -> PolicyProbed:
    """Probe weights, with their adapter if they have one.

    Raises:
        TrainerError: the tokenizer makes less than two tokens of the text.
    """
    tokens = tuple(weights.tokenizer(TEXT, verbose=False)["input_ids"][:MAX_TOKENS])
    if len(tokens) < 2:
        raise TrainerError(
            f"The tokenizer in {weights.folder} makes {len(tokens)} tokens of a program; give the model its own."
        )
    if weights.adapter is not None:
        weights.adapter.activate()
    return PolicyProbed(digest=weights.digest, tokens=tokens, logprobs=_logprobs(weights.model, tokens, learn))


def _logprobs(model: PreTrainedModel, tokens: Sequence[int], learn: LearnSettings) -> tuple[float, ...]:
    """Natural-log probability of each token but the first."""
    import torch

    ids = torch.tensor([tokens], device=model.device)
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=learn.precision == "bfloat16"):
        output: Any = model(input_ids=ids, use_cache=False)
    fsdp.reshard(model)
    logprobs = torch.log_softmax(output.logits[0, :-1].float(), dim=-1).gather(1, ids[0, 1:, None])
    return tuple(logprobs[:, 0].tolist())
