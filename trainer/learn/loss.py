"""The losses of `trl.GRPOTrainer` on our micro-batches; beside `trainer.learn.tuning` the only module that imports TRL.

The loss is TRL's `_compute_loss`, a private method, hence the pin `trl==1.16.*` and tests of every loss against its formula in
float64. TRL neither samples, nor steps, nor saves here.

Guarantees:
- The losses of the micro-batches of a step batch add up to the average over the step batch, however it is divided.
- A prompt is read once for all its completions, through the model's key-value cache, gradient included, unless layers are
  recomputed or sharded.
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
from trainer.data.micro_batches import MicroBatch
from trainer.data.step_batches import StepBatch
from trainer.learn.importance import importance_weights, mismatch_metrics
from trainer.parallel.fsdp import is_sharded

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOSSES: Final[dict[str, dict[str, str]]] = {
    **{name: {"loss_type": name} for name in ("dapo", "grpo", "dr_grpo", "cispo", "sapo")},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}
"""TRL's settings for each `learn.loss`. TRL's LUSPO and VESPO are missing: they differ from their formulas by over 1e-6."""
_LOGITS_CHUNK: Final = 2048
"""Vocabulary entries whose logits TRL's head computes at once, for up to 4096 positions: 32 MiB in float32. More is slower:
the allocator returns larger blocks to the kernel, which maps them again page by page."""
_TOKEN_AVERAGED: Final = ("dapo", "cispo")
"""Losses averaged over tokens; the others are averaged over completions."""
_METRICS: Final = {
    **{name: name for name in ("entropy", "kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")},
    "cispo_clip_ratio": "clip_ratio/region_mean",
}
"""TRL's names of metrics to ours."""
HIDDEN_PACKAGES: Final = ("bitsandbytes", "sklearn", "vllm", "wandb")
"""Packages that TRL, peft and transformers import where installed, and that no trainer needs: half of the time of a start."""


def keep_libraries_offline() -> None:
    """Keep Hugging Face libraries, and what they load, off the network and quiet. Call it before any of them is imported."""
    os.environ |= {
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
    # OpenMP threads that spin while they wait take cores from other processes on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def hide_packages(packages: Sequence[str]) -> Iterator[None]:
    """Make imports of these packages fail inside the context, unless they are imported already."""
    hidden = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None marks a module that cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class PolicyLoss:
    """A policy-gradient loss by name (`learn.loss`), with its KL and entropy terms."""

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
        """Wrap a model; the caller steps its parameters.

        Args:
            model: the policy; TRL patches it.
            tokenizer: required by TRL; no text passes through it.
            learn: settings of the loss.
            seed: TRL seeds the global generators with it.
            folder: required by TRL; nothing is written there.
            longest: most tokens of a completion; Dr. GRPO divides by it.
            reference: the model that the KL term pulls to; needed if `learn.kl` > 0.
        """
        from datasets import Dataset

        with hide_packages(HIDDEN_PACKAGES):
            from trl import GRPOTrainer

        self._head = _TemperatureHead(model)
        self._trainer: Any = GRPOTrainer(
            model,
            reward_funcs=unused_reward,
            args=_arguments(learn, seed=seed, folder=folder, longest=longest),
            train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
            processing_class=tokenizer,
        )
        # Set only now: TRL would load a reference of its own for the one, and start vLLM for the other.
        self._trainer.beta = learn.kl
        self._trainer.use_vllm = learn.importance != "none"
        # TRL computes the policy's logprobs in this method only, so what the log must be compared with is seen here.
        self._score: Callable[..., Any] = self._trainer._get_per_token_logps_and_entropies
        self._trainer._get_per_token_logps_and_entropies = self._score_and_measure
        self._inputs: dict[str, Any] = {}
        self._figures: dict[str, float] = {}
        self._learn = learn
        # Recomputed and sharded layers cannot continue from a key-value cache.
        self.reads_prompt_once: Final = not learn.gradient_checkpointing and not is_sharded(model)
        """Whether a prompt is read once for all its completions in a batch, instead of with each of them."""
        self._model = model.eval()
        # TRL files its metrics by this flag. Submodules stay in evaluation mode: dropout would change the policy in the ratio.
        model.training = True
        if learn.gradient_checkpointing:
            _enable_recomputation(model)
        self._reference = None if reference is None else _TemperatureHead(reference.to(model.device).eval())

    def __call__(self, micro: MicroBatch, batch: StepBatch) -> tuple[Tensor, dict[str, float]]:
        """The micro-batch's share of a step batch's loss (a scalar, with gradient), and its metrics, means over its tokens.

        Raises:
            TrainerError: the micro-batch holds token ids that the model does not have.
        """
        import torch

        size = self._model.get_input_embeddings().weight.shape[0]
        if max(micro.ids.max(), micro.prompts.max()) >= size or min(micro.ids.min(), micro.prompts.min()) < 0:
            raise TrainerError(f"The log holds token ids beyond the model's {size}; these weights did not sample them.")
        self._inputs = self._tensors(micro, batch)
        if batch.phase == "text":
            return self._likelihood(micro, batch)
        trainer = self._trainer
        # TRL divides by the number of accumulated micro-batches; the average over the step batch needs its size instead.
        parts = 1.0 if self._learn.loss in _TOKEN_AVERAGED else batch.completions / len(micro.ids)
        trainer.current_gradient_accumulation_steps = parts
        # TRL averages the entropy over the micro-batch's tokens, whatever the loss is averaged over.
        trainer.entropy_coef = self._learn.entropy * parts * micro.tokens / batch.tokens
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._learn.precision == "bfloat16"):
            if self._learn.kl:
                self._inputs["ref_per_token_logps"] = self._reference_logprobs(micro)
            loss = trainer._compute_loss(self._after_prompts(self._head, micro), self._inputs)
        recorded = trainer._metrics["train"]
        metrics = {ours: float(recorded[theirs][-1]) for theirs, ours in _METRICS.items() if theirs in recorded}
        # TRL would keep the metrics of every call until it logs, which it never does here.
        recorded.clear()
        return loss, {"clip_ratio/region_mean": 0.0, **metrics, **self._figures}

    def _likelihood(self, micro: MicroBatch, batch: StepBatch) -> tuple[Tensor, dict[str, float]]:
        """The negative log-likelihood of given texts (a scalar), averaged over the step batch's tokens; no term of RL is added.

        Supervised fine-tuning: the mean of -log p(token | prompt and tokens before it), the prompt excluded.
        """
        import torch

        inputs = self._inputs
        text = [torch.cat([inputs[f"prompt_{what}"], inputs[f"completion_{what}"]], 1) for what in ("ids", "mask")]
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._learn.precision == "bfloat16"):
            model = self._after_prompts(self._head, micro)
            logprobs, entropies = self._score(model, *text, micro.ids.shape[1], compute_entropy=True)[:2]
        mask = inputs["tool_mask"]
        loss = -(logprobs * mask).sum() / batch.tokens
        return loss, {"entropy": float((entropies.detach() * mask).sum() / mask.sum())}

    def _tensors(self, micro: MicroBatch, batch: StepBatch) -> dict[str, Any]:
        """The inputs of TRL's loss: the last token of each prompt as [B, 1], completions as [B, T], advantages as [B]."""
        import torch

        device = self._model.device
        # A completion's first token is scored by the logits of the token before it, so TRL is given that one.
        last = micro.prompts[micro.prompt, micro.lengths[micro.prompt] - 1]
        inputs = {
            "prompt_ids": torch.from_numpy(last).to(device)[:, None],
            "prompt_mask": torch.ones((len(last), 1), dtype=torch.int64, device=device),
            "completion_ids": torch.from_numpy(micro.ids).to(device),
            "completion_mask": torch.from_numpy(micro.mask).to(device),
            # TRL's name for what leaves tokens out of the loss that the model read but did not write.
            "tool_mask": torch.from_numpy(micro.sampled).to(device),
            "sampling_per_token_logps": torch.from_numpy(micro.logprobs).to(device),
            "advantages": torch.from_numpy(micro.advantages).to(device),
            "num_items_in_batch": torch.tensor(float(batch.tokens), device=device),
        }
        if self._learn.importance == "none":
            inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"]
        return inputs

    def _score_and_measure(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's scoring of a micro-batch; keeps its mismatch metrics, and adds importance weights to the inputs of the loss."""
        logprobs, *rest = self._score(*args, **kwargs)
        mask = self._inputs["tool_mask"]
        log_ratio = (logprobs.detach() - self._inputs["sampling_per_token_logps"]) * mask
        self._figures = mismatch_metrics(log_ratio, mask)
        if (kind := self._learn.importance) != "none":
            # Without old logprobs TRL takes these, so that this weight is p_old / p_sampled.
            weights = importance_weights(log_ratio, kind, self._learn.importance_cap)
            self._inputs["importance_sampling_ratio"] = weights
        return logprobs, *rest

    def _reference_logprobs(self, micro: MicroBatch) -> Tensor:
        """Shape [B, T]."""
        import torch

        assert self._reference is not None, "learn.kl needs a reference"
        inputs = self._inputs
        text = [torch.cat([inputs[f"prompt_{what}"], inputs[f"completion_{what}"]], 1) for what in ("ids", "mask")]
        with torch.no_grad():
            model = self._after_prompts(self._reference, micro)
            logprobs: Tensor = self._score(model, *text, micro.ids.shape[1])[0]
        return logprobs

    def _after_prompts(self, head: _TemperatureHead, micro: MicroBatch) -> Any:
        """The model as TRL calls it, with the last prompt token and the completion, [B, 1 + T]; adds the rest of the prompt."""
        model = head.at(micro.temperature)
        if micro.prompts.shape[1] == 1:
            return model
        return _with_cached_prompts(model, micro) if self.reads_prompt_once else _with_full_prompts(model, micro)


def _with_cached_prompts(model: Any, micro: MicroBatch) -> Any:
    """The model with all but the last token of every prompt in its cache: read as [Q, P - 1], then repeated to [B, P - 1]."""
    import torch

    prefixes = torch.from_numpy(micro.prompts[:, :-1]).to(model.device)
    rows = torch.from_numpy(micro.prompt).to(model.device)
    cached = torch.from_numpy(micro.lengths).to(model.device)[rows][:, None] - 1
    columns = torch.arange(prefixes.shape[1], device=model.device)[None, :]
    # Right padding needs no mask here: a causal model does not look ahead.
    # With gradient: keys and values of the prompt depend on the weights as well.
    cache = model.base_model(input_ids=prefixes, use_cache=True).past_key_values
    cache.batch_select_indices(rows)
    takes_positions = "position_ids" in inspect.signature(model.base_model.forward).parameters

    def call(*, attention_mask: Tensor, input_ids: Tensor, **rest: Any) -> Any:
        mask = torch.cat([(columns < cached).to(attention_mask), attention_mask], dim=1)
        if takes_positions:
            rest["position_ids"] = cached + torch.arange(input_ids.shape[1], device=model.device)[None, :]
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache, **rest)

    return call


def _with_full_prompts(model: Any, micro: MicroBatch) -> Any:
    """The model that reads prompts with completions as [B, P + T], padded on the right, and scores completions only."""
    import torch

    lengths = micro.lengths[micro.prompt] - 1
    text = np.zeros((len(lengths), int((lengths + micro.mask.sum(1)).max()) + 1), np.int64)
    for row, (length, ids, mask) in enumerate(zip(lengths, micro.ids, micro.mask, strict=True)):
        text[row, : length + 1] = micro.prompts[micro.prompt[row], : length + 1]
        text[row, length + 1 : length + 1 + mask.sum()] = ids[: mask.sum()]
    positions = (lengths[:, None] + np.arange(micro.ids.shape[1] + 1)).clip(max=text.shape[1] - 1)
    full, scored = torch.from_numpy(text).to(model.device), torch.from_numpy(positions).to(model.device)

    def call(*, attention_mask: Tensor, input_ids: Tensor, **rest: Any) -> Any:
        # TRL's own inputs, the last prompt token and the completion, are part of `full`.
        with _keep_positions(model.base_model, scored):
            return model(input_ids=full, **rest)

    return call


class _TemperatureHead:
    """A model with a head for each temperature; TRL's fused head has one temperature only."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._unfused = model.forward
        self._forward: dict[float, Any] = {}

    def at(self, temperature: float) -> Any:
        """The model, computing logprobs at this temperature."""
        from trl.trainer import utils

        utils._CHUNKED_LOGPROB_CHUNK_SIZE = _LOGITS_CHUNK
        if temperature not in self._forward:
            # TRL wraps the present forward, so each head starts from the model as it was.
            self._model.forward = self._unfused
            utils.add_fused_lm_head(self._model, temperature=temperature, outputs=("log_probs", "entropy"))
            self._forward[temperature] = self._model.forward
        self._model.forward = self._forward[temperature]
        return self._model


@contextmanager
def _keep_positions(body: Module, positions: Tensor) -> Iterator[None]:
    """Let a model's body return hidden states of these positions, shape [B, T], only, so that its head computes no others."""

    def select(_module: Module, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.take_along_dim(positions[:, :, None], dim=1)
        return output

    hook = body.register_forward_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _enable_recomputation(model: PreTrainedModel) -> None:
    """Turn on gradient checkpointing for the layers, which look at their own `training` flag, and not for their submodules."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True


def trl_arguments(folder: Path, seed: int) -> dict[str, Any]:
    """Arguments of every TRL trainer: nothing is written or reported, and float32 is kept."""
    import torch

    return {
        "output_dir": str(folder),
        # NumPy takes no larger seeds.
        "seed": seed % 2**32,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _arguments(learn: LearnSettings, *, seed: int, folder: Path, longest: int) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        **trl_arguments(folder, seed),
        **LOSSES[learn.loss],
        epsilon=learn.clip,
        # TRL's CISPO takes the cap itself, its others the distance from 1.
        epsilon_high=learn.ratio_cap if learn.loss == "cispo" else learn.clip_high,
        delta=learn.delta,
        beta=0.0,
        entropy_coef=learn.entropy,
        max_completion_length=longest,
        # The least that TRL accepts; it never forms a batch here.
        per_device_train_batch_size=2,
        num_generations=2,
    )


def unused_reward(**_: object) -> list[float]:
    """Required by GRPOTrainer and never called: rewards come from the log."""
    raise AssertionError
