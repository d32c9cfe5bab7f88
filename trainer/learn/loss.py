"""The seam to TRL, which only `trainer.learn.tuning` imports beside it: the losses of `trl.GRPOTrainer` on our batches.

Law: the loss is TRL's own `_compute_loss`, a private method, hence the pin `trl==1.16.*` and the parity tests of every loss
against its formula in float64. Losses of micro-batches add up to the average over the whole lesson, however it is cut. TRL
neither samples, nor steps, nor saves here. What is ours is that a prompt is read once for all its completions, through the
model's own cache, gradient included.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from events.facts.errors import TrainerError
from graph.settings.config import LearnSettings
from trainer.data.credited_samples import StepBatch
from trainer.data.micro_batches import MicroBatch
from trainer.learn.importance import importance_weights, mismatch_metrics
from trainer.parallel.fsdp import is_sharded

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOSSES: Final[dict[str, dict[str, str]]] = {
    "dapo": {"loss_type": "dapo"},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo"},
    "sapo": {"loss_type": "sapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}
"""What TRL calls each `learn.loss`; all agree with their formulas to 1e-6, which its LUSPO and VESPO do not."""
_LOGITS_CHUNK: Final = 2048
"""Tokens of the vocabulary whose logits TRL's head computes at once, for up to 4096 places: 32 MiB in float32. More is slower:
larger blocks of memory come from the kernel, page by page, each time."""
_TOKEN_AVERAGED: Final = ("dapo", "cispo")
"""Losses averaged over tokens; the others are averaged over completions."""
_METRICS: Final = {
    "entropy": "entropy",
    "kl": "kl",
    "clip_ratio/low_mean": "clip_ratio/low_mean",
    "clip_ratio/high_mean": "clip_ratio/high_mean",
    "clip_ratio/region_mean": "clip_ratio/region_mean",
    "cispo_clip_ratio": "clip_ratio/region_mean",
}
"""TRL's names of metrics to ours."""
HIDDEN_PACKAGES: Final = ("bitsandbytes", "vllm", "wandb")
"""What GRPOTrainer and peft load where it is installed: half of the CPU seconds that a trainer needs to start, for nothing."""


def offline() -> None:
    """Keep every Hugging Face library, and what it would load if installed, off the network and quiet.

    Call it before anything imports one.
    """
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # TRL would import mlflow, which takes seconds and reports its use over the network.
        "DISABLE_MLFLOW_INTEGRATION": "TRUE",
    }
    os.environ.update(quiet)
    # Threads that wait for each other in a loop take the cores from those that they wait for, where others work here too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def hide_packages(packages: Sequence[str]) -> Iterator[None]:
    """Let nobody find these packages for a while, if they are not loaded yet."""
    hidden = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None is Python's own word for a module that is not there
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class PolicyLoss:
    """A loss by name: how far the policy should move towards what was rewarded, per token or per completion."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        learn: LearnSettings,
        *,
        seed: int,
        folder: Path,
        longest: int,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """Wrap `model`, which stays the caller's to step.

        Args:
            model: the policy, patched by TRL from now on.
            tokenizer: its own; TRL demands it, and no text passes through it.
            learn: which loss, and its terms.
            seed: TRL seeds the global generators with it.
            folder: where TRL would write, which it is not asked to.
            longest: most tokens that a completion may have, by which Dr. GRPO divides.
            reference: what `learn.kl` pulls to; needed where it is above 0.
        """
        from datasets import Dataset

        with hide_packages(HIDDEN_PACKAGES):
            from trl import GRPOTrainer

        self._head = _TemperatureHead(model)
        self._trainer: Any = GRPOTrainer(
            model,
            reward_funcs=_unused_reward,
            args=_arguments(learn, seed=seed, folder=folder, longest=longest),
            train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
            processing_class=tokenizer,
        )
        # Set only now: TRL would load a reference of its own for the one, and start vLLM for the other.
        self._trainer.beta = learn.kl
        self._trainer.use_vllm = learn.importance != "none"
        self._score: Callable[..., Any] = self._trainer._get_per_token_logps_and_entropies
        self._trainer._get_per_token_logps_and_entropies = self._watched
        self._inputs: dict[str, Any] = {}
        self._figures: dict[str, float] = {}
        self._learn = learn
        # Layers that compute again, or are put together from parts, cannot go on from a cache.
        self.reads_prompt_once: Final = not learn.gradient_checkpointing and not is_sharded(model)
        """Whether a prompt is read once for all its completions in a batch, instead of with each of them."""
        self._model = model.eval()
        # TRL files its metrics by this flag. The parts stay in evaluation: under dropout the ratio would be to another policy.
        model.training = True
        if learn.gradient_checkpointing:
            _enable_recomputation(model)
        self._reference = None if reference is None else _TemperatureHead(reference.to(model.device).eval())

    def __call__(self, batch: MicroBatch, lesson: StepBatch) -> tuple[Tensor, dict[str, float]]:
        """The batch's share of the lesson's loss (with gradient), and its metrics as means over its tokens.

        Raises:
            TrainerError: the batch holds ids that the model does not know.
        """
        import torch

        size = self._model.get_input_embeddings().weight.shape[0]
        if max(batch.ids.max(), batch.prompts.max()) >= size or min(batch.ids.min(), batch.prompts.min()) < 0:
            raise TrainerError(f"The log holds token ids beyond the model's {size}; these weights did not sample them")
        self._inputs = self._given(batch, lesson)
        trainer = self._trainer
        # TRL divides by the number of batches that it accumulates; the lesson's average needs the lesson's size instead.
        parts = 1.0 if self._learn.loss in _TOKEN_AVERAGED else lesson.completions / len(batch.ids)
        trainer.current_gradient_accumulation_steps = parts
        # TRL averages the entropy over the batch's tokens, whatever the loss is averaged over.
        trainer.entropy_coef = self._learn.entropy * parts * batch.tokens / lesson.tokens
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._learn.precision == "bfloat16"):
            if self._learn.kl:
                self._inputs["ref_per_token_logps"] = self._reference_logprobs(batch)
            loss = trainer._compute_loss(self._after_prompts(self._head, batch), self._inputs)
        kept = trainer._metrics["train"]
        metrics = {ours: float(kept[theirs][-1]) for theirs, ours in _METRICS.items() if theirs in kept}
        kept.clear()
        return loss, {"clip_ratio/region_mean": 0.0, **metrics, **self._figures}

    def _given(self, batch: MicroBatch, lesson: StepBatch) -> dict[str, Any]:
        import torch

        device = self._model.device
        last = batch.prompts[batch.prompt, batch.lengths[batch.prompt] - 1]
        inputs = {
            "prompt_ids": torch.from_numpy(last).to(device)[:, None],
            "prompt_mask": torch.ones((len(last), 1), dtype=torch.int64, device=device),
            "completion_ids": torch.from_numpy(batch.ids).to(device),
            "completion_mask": torch.from_numpy(batch.mask).to(device),
            "sampling_per_token_logps": torch.from_numpy(batch.logprobs).to(device),
            "advantages": torch.from_numpy(batch.advantages).to(device),
            "num_items_in_batch": torch.tensor(float(lesson.tokens), device=device),
        }
        if self._learn.importance == "none":
            inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
        return inputs

    def _watched(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's scoring, and what follows from the logprobs that it finds."""
        found = self._score(*args, **kwargs)
        mask = self._inputs["completion_mask"]
        log_ratio = (found[0].detach() - self._inputs["sampling_per_token_logps"]) * mask
        self._figures = mismatch_metrics(log_ratio, mask)
        if self._learn.importance != "none":
            # Without old logprobs TRL takes those just found, so that this weight is p_old / p_sampled.
            self._inputs["importance_sampling_ratio"] = importance_weights(
                log_ratio, self._learn.importance, self._learn.importance_cap
            )
        return found

    def _reference_logprobs(self, batch: MicroBatch) -> Tensor:
        import torch

        assert self._reference is not None, "learn.kl needs a reference"
        with torch.no_grad():
            model = self._after_prompts(self._reference, batch)
            text = [
                torch.cat([self._inputs[f"prompt_{what}"], self._inputs[f"completion_{what}"]], 1) for what in ("ids", "mask")
            ]
            logprobs: Tensor = self._score(model, *text, batch.ids.shape[1])[0]
        return logprobs

    def _after_prompts(self, head: _TemperatureHead, batch: MicroBatch) -> Any:
        """The model as TRL is to call it: with the last token of a prompt and a completion a row, the rest being read here."""
        model = head.at(batch.temperature)
        if batch.prompts.shape[1] == 1:
            return model
        return _with_cached_prompts(model, batch) if self.reads_prompt_once else _with_full_prompts(model, batch)


def _with_cached_prompts(model: Any, batch: MicroBatch) -> Any:
    """The model with all but the last token of every prompt read already, once for its group."""
    import torch

    prefixes = torch.from_numpy(batch.prompts[:, :-1]).to(model.device)
    rows = torch.from_numpy(batch.prompt).to(model.device)
    known = torch.from_numpy(batch.lengths).to(model.device)[rows][:, None] - 1
    before = torch.arange(prefixes.shape[1], device=model.device)[None, :]
    # Right padding needs no mask here: a causal model does not look ahead.
    cache = model.base_model(input_ids=prefixes, use_cache=True).past_key_values
    cache.batch_select_indices(rows)
    takes_places = "position_ids" in inspect.signature(model.base_model.forward).parameters

    def call(*, attention_mask: Tensor, input_ids: Tensor, **rest: Any) -> Any:
        mask = torch.cat([(before < known).to(attention_mask), attention_mask], dim=1)
        if takes_places:
            rest["position_ids"] = known + torch.arange(input_ids.shape[1], device=model.device)[None, :]
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache, **rest)

    return call


def _with_full_prompts(model: Any, batch: MicroBatch) -> Any:
    """The model that reads each completion with its prompt, padded on the right, and scores no place of the prompt."""
    import torch

    lengths = batch.lengths[batch.prompt] - 1
    text = np.zeros((len(lengths), int((lengths + batch.mask.sum(1)).max()) + 1), np.int64)
    for row, (length, ids, mask) in enumerate(zip(lengths, batch.ids, batch.mask, strict=True)):
        text[row, : length + 1] = batch.prompts[batch.prompt[row], : length + 1]
        text[row, length + 1 : length + 1 + mask.sum()] = ids[: mask.sum()]
    places = (lengths[:, None] + np.arange(batch.ids.shape[1] + 1)).clip(max=text.shape[1] - 1)
    seen, scored = torch.from_numpy(text).to(model.device), torch.from_numpy(places).to(model.device)

    def call(*, attention_mask: Tensor, input_ids: Tensor, **rest: Any) -> Any:
        with _keep_positions(model.base_model, scored):
            return model(input_ids=seen, **rest)

    return call


class _TemperatureHead:
    """A model that scores tokens under the distribution they were sampled from; TRL fixes one temperature a model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._plain = model.forward
        self._forward: dict[float, Any] = {}

    def at(self, temperature: float) -> Any:
        from trl.trainer import utils

        utils._CHUNKED_LOGPROB_CHUNK_SIZE = _LOGITS_CHUNK
        if temperature not in self._forward:
            self._model.forward = self._plain
            utils.add_fused_lm_head(self._model, temperature=temperature, outputs=("log_probs", "entropy"))
            self._forward[temperature] = self._model.forward
        self._model.forward = self._forward[temperature]
        return self._model


@contextmanager
def _keep_positions(body: Module, places: Tensor) -> Iterator[None]:
    """Let a model's body tell of these places [B, T] only, so that its head reads no others."""

    def chosen(_module: Module, _given: Any, found: Any) -> Any:
        hidden = found.last_hidden_state
        found.last_hidden_state = hidden.take_along_dim(places[:, :, None], dim=1)
        return found

    hook = body.register_forward_hook(chosen)
    try:
        yield
    finally:
        hook.remove()


def _enable_recomputation(model: PreTrainedModel) -> None:
    """Let the layers forget their activations; they look at their own flag, their parts at theirs."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True


def _arguments(learn: LearnSettings, *, seed: int, folder: Path, longest: int) -> Any:
    import torch
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        **LOSSES[learn.loss],
        epsilon=learn.clip,
        # TRL's CISPO takes the cap itself, its others the distance from 1.
        epsilon_high=learn.ratio_cap if learn.loss == "cispo" else learn.clip_high,
        delta=learn.delta,
        beta=0.0,
        entropy_coef=learn.entropy,
        max_completion_length=longest,
        # NumPy takes no larger ones; nothing that is drawn from it has an effect.
        seed=seed % 2**32,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        num_generations=2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _unused_reward(**_: object) -> list[float]:
    """GRPOTrainer demands a reward function; rewards come from the log, so nobody calls it."""
    raise AssertionError
