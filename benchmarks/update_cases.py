"""A model and a log with one iteration to learn, on which updates are measured.

Everything follows from the seed. Tokens are drawn at random, in lengths of the case; their logprobs are the model's own.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from events.facts.errors import BadInput
from events.facts.log import find_run_started
from events.facts.rollouts import pack_rollouts
from events.facts.types import RunStarted
from events.facts.values import Digest, Generation, Role, Sampling
from events.stores.memory import MemoryLog
from graph.settings.config import LearnSettings, LoraSettings
from roles.pocket import WEIGHTS
from tests.support.example_runs import START_WEIGHTS, ExampleRun
from trainer.data.step_batches import StepBatch
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn.adapter import Adapter
from trainer.learn.loss import keep_libraries_offline

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GROUP: Final = 8
"""Completions of a prompt."""
RATE: Final = 1e-7
"""Learning rate; so small that the weights stay what sampled, however often they are updated."""


class RandomModelShape(NamedTuple):
    """A model with random weights, in the proportions of Qwen2.5-Coder and the words of `Qwen2Config`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool


SHAPES: Final = {
    "5m": RandomModelShape(256, 5, 4, 2, 896, 1586, False),
    "1.5b": RandomModelShape(1536, 28, 12, 2, 8960, 151_936, True),
    "7b": RandomModelShape(3584, 28, 28, 4, 18_944, 152_064, False),
}
"""Besides `pocket`, the weights that ship with the project."""


@dataclass(frozen=True)
class LengthCase:
    """How long prompts and completions are."""

    what: str
    prompt: tuple[int, int]
    """Fewest and most tokens of a prompt, uniformly."""
    median: int
    """Median tokens of a completion."""
    sigma: float
    """Standard deviation of their logarithm; 0: all are equally long."""
    longest: int
    """Completions are cut there."""

    def length(self, rng: random.Random) -> int:
        """Tokens of a completion."""
        return max(1, min(self.longest, round(math.exp(rng.gauss(math.log(self.median), self.sigma)))))


CASES: Final = {
    "equal": LengthCase("equally long", (48, 48), 96, 0.0, 96),
    "spread": LengthCase("spread as chains of thought are", (32, 96), 56, 0.7, 320),
}
REAL_MODEL_CASE: Final = LengthCase("as long as a real model's answers", (150, 450), 190, 0.6, 512)
"""Of a `Setting` with a model."""


@dataclass(frozen=True)
class Setting:
    """Where, with which model and how many samples."""

    shape: str = "pocket"
    device: str = "cpu"
    groups: int = 8
    seed: int = 0
    model: Path | None = None
    """The folder of a real model, which is learned as adapters, instead of a shape."""
    threads: int = 1

    @property
    def learn(self) -> LearnSettings:
        """Settings of all contenders."""
        if self.model is None:
            precision = "float32" if self.device == "cpu" else "bfloat16"
            return LearnSettings(learning_rate=RATE, warm_up=0, precision=precision, batch_tokens=16384)
        budget = 2048 if self.device == "cpu" else 16384
        real = {"gradient_checkpointing": True, "lora": LoraSettings(rank=16), "batch_tokens": budget}
        return LearnSettings(learning_rate=RATE, warm_up=0, precision="bfloat16", **real)


def model_of(setting: Setting) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The weights, the same at every call.

    Raises:
        BadInput: there is no such device here.
    """
    keep_libraries_offline()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    torch.set_num_threads(setting.threads)
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("there is no CUDA device here; leave --device at cpu")
    tokenizer = AutoTokenizer.from_pretrained(setting.model or WEIGHTS)
    if setting.model is not None:
        model = AutoModelForCausalLM.from_pretrained(setting.model, dtype=torch.float32).to(setting.device)
        Adapter.attach(model, "shared", Digest(""), setting.learn.lora, setting.seed).activate()
        return model, tokenizer
    if setting.shape == "pocket":
        return AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).to(setting.device), tokenizer
    config = Qwen2Config(**SHAPES[setting.shape]._asdict())
    torch.manual_seed(setting.seed)
    with torch.device(setting.device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer


class SizedRun(ExampleRun):
    """An example run in which completions are as long as a case says, with logprobs of the model's own."""

    def __init__(self, log: MemoryLog, model: PreTrainedModel, case: LengthCase, seed: int) -> None:
        super().__init__(log, seed=seed, vocabulary=model.config.vocab_size, policy=START_WEIGHTS, sampling=Sampling())
        self._model = model
        self._case = case

    def generation(self, prompt: str, count: int, role: Role = "student") -> Generation:
        """Random tokens with the model's logprobs."""
        made = super().generation(prompt, count, role)
        rng, size = self._random, self._vocabulary
        prompt_ids = [rng.randrange(size) for _ in range(rng.randint(*self._case.prompt))]
        ids = [[rng.randrange(size) for _ in range(self._case.length(rng))] for _ in range(count)]
        logprobs = [_logprobs(self._model, prompt_ids, row) for row in ids]
        tokens = self.log.put(pack_rollouts(prompt_ids, ids, logprobs))
        return made.model_copy(update={"tokens": tokens, "length": sum(map(len, ids))})


def _logprobs(model: PreTrainedModel, prompt: list[int], ids: list[int]) -> list[float]:
    import torch

    with torch.no_grad():
        text = torch.tensor([[*prompt, *ids]], device=model.device)
        logits = model(text).logits[0, len(prompt) - 1 : -1].float()
        logprobs = logits.log_softmax(-1).gather(-1, text[0, len(prompt) :, None])[:, 0]
    return cast(list[float], logprobs.tolist())


def recorded_schedule(case: LengthCase, setting: Setting) -> UpdateSchedule:
    """A log with one iteration of real-data RL, to be learned."""
    log = MemoryLog()
    example = SizedRun(log, model_of(setting)[0], case, setting.seed)
    example.run(learn=setting.learn.model_dump()).start(setting.groups)
    rng = random.Random(setting.seed)  # noqa: S311  # no secret
    for _ in range(setting.groups):
        example.practice(passing=rng.randrange(1, GROUP), attempts=GROUP)
    example.finish()
    start = find_run_started(log)
    assert isinstance(start, RunStarted)
    return UpdateSchedule(log, start)


def step_batch_of(schedule: UpdateSchedule) -> StepBatch:
    """The step batch of the log, with advantages."""
    waiting = schedule.next(schedule.cursor("shared"))
    assert waiting is not None
    return schedule.step_batches(waiting[0], schedule.rollouts(*waiting))[0]
