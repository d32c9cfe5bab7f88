"""Warnings about settings that are valid one by one, but with which a run would fail or disappoint later.

Those of `graph.settings.refusals` stop a run; the others are only shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from graph.estimate.budget import Budget
from graph.estimate.question_count import question_count
from graph.settings.bfloat16 import GPU_FILE
from graph.settings.config import Config
from graph.settings.model_location import local_model_folder
from graph.settings.refusals import few_goalposts, refusals
from roles.questions.pocket_folders import POCKET_FOLDERS

BFLOAT16_ROUNDING: Final = 1.0
"""Logprob mismatch of a token, in nats, that is usual when completions are sampled in bfloat16."""
MAX_LEARNING_RATE: Final = 1e-4
"""Full training of a large model fails above this learning rate."""
LARGE_MODEL_WEIGHTS: Final = 1e8
"""Fewest weights of a large model."""


def warnings(config: Config, budget: Budget | None) -> Iterator[str]:
    """The warnings; fewer where the model's dimensions are not known."""
    serve, learn = config.serve, config.learn
    if serve.sleep and learn.staleness:
        yield f"serve.sleep gives GPUs to the trainer while it trains, but learn.staleness={learn.staleness} plays on meanwhile"
    if serve.dtype == "bfloat16" and config.mismatch_limit < BFLOAT16_ROUNDING:
        yield (
            f"serve.dtype=bfloat16 rounds more than learn.drift={config.mismatch_limit:g} nats a token allow, so that"
            " the trainer would stop; leave learn.drift unset"
        )
    if config.prompts in POCKET_FOLDERS and config.model != config.prompts:
        yield (
            f"prompts={config.prompts} are in the language of the model of that name; other models want prompts=base or"
            " prompts=instruct"
        )
    folder = _here(config.model)
    with suppress(BadInput):  # a GGUF file that cannot be read, which the report says already
        yield from refusals(config, folder)
    with suppress(BadInput):  # no such set, which the report says already
        count = question_count(config.goalposts, "goalposts")
        yield from few_goalposts(config, count) if count is not None else ()
    if budget is not None:
        yield from _of_the_model(config, budget, fetched=folder is not None)


def _here(model: str) -> Path | None:
    try:
        return local_model_folder(model)
    except BadInput:
        # The report says so already.
        return None


def _of_the_model(config: Config, budget: Budget, *, fetched: bool) -> Iterator[str]:
    dims, memory, learn = budget.dims, budget.memory, config.learn
    if not fetched and config.window > dims.context:
        asked = f"prompts of up to {config.max_prompt_tokens} and completions of up to {config.max_tokens} tokens"
        yield f"{asked} exceed the model's context of {dims.context}"
    if not memory.fits:
        yield (
            "memory does not fit, see above; try learn.gradient_checkpointing, learn.shard, learn.lora.rank, serve.sleep, less"
            " serve.gpu_memory (on a CPU serve.kv_cache_gib), or fewer tokens"
        )
    missing = sorted(set(learn.lora.modules) - set(dims.linear))
    if not fetched and learn.lora.rank and missing:
        names = ", ".join(map(repr, missing))
        yield f"learn.lora.modules names {names}, which the model does not have; it has {', '.join(dims.linear)}"
    if not learn.lora.rank and dims.weights >= LARGE_MODEL_WEIGHTS and learn.learning_rate > MAX_LEARNING_RATE:
        yield f"learn.learning_rate={learn.learning_rate:g} is for tiny models; the paper has 1e-6 for 7 B weights"
    if dims.tied and config.serve.backend == "vllm" and not GPU_FILE.exists():
        yield (
            "the model's embeddings are tied, so that vLLM on a CPU would go on with the old output head; here is no GPU to see"
        )
