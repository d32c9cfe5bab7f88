"""The seam to TRL, and the only file that imports it: the clipped token loss of `trl.GRPOTrainer` on our batches.

Law: the loss is TRL's own `_compute_loss`, a private method, hence the pin `trl==1.16.*` and the parity test against the
formula in float64. Old logprobs are the logged ones. Losses of micro-batches add up to the token mean over the whole
lesson (`loss_type="dapo"`), however it is cut. TRL neither samples, nor steps, nor saves here. What is ours is that a prompt
is read once for all its completions, through the model's own cache, gradient included.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from events.errors import TrainerError
from trainer.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DRIFT: Final = "sampling/sampling_logp_difference/mean"
"""Metric: mean distance between logged and recomputed logprobs; near 0 when the weights are those that sampled."""
_METRICS: Final = {
    "entropy": "entropy",
    "clip_ratio/low_mean": "clip_ratio/low_mean",
    "clip_ratio/high_mean": "clip_ratio/high_mean",
    "clip_ratio/region_mean": "clip_ratio/region_mean",
}


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


class ClippedLoss:
    """-min(ratio A, clip(ratio) A), averaged over tokens; ratio = p / p_sampled. PPO's clip, GRPO's family, no KL."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, clip: float, seed: int, folder: Path
    ) -> None:
        import torch
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        settings = GRPOConfig(
            output_dir=str(folder),
            loss_type="dapo",
            epsilon=clip,
            beta=0.0,
            seed=seed,
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
        self._plain = model.forward
        self._forward: dict[float, Any] = {}
        self._trainer: Any = GRPOTrainer(
            model,
            reward_funcs=_unused_reward,
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": ["", ""]}),
            processing_class=tokenizer,
        )
        # One lesson is one accumulation window; `items` already spans all of its micro-batches.
        self._trainer.current_gradient_accumulation_steps = 1
        self._score: Callable[..., Any] = self._trainer._get_per_token_logps_and_entropies
        self._trainer._get_per_token_logps_and_entropies = self._keep_logprobs
        self._logprobs: Tensor | None = None
        self._model = model.train()

    def __call__(self, batch: Batch, items: int) -> tuple[Tensor, dict[str, float]]:
        """The batch's share of the loss (with gradient), and its metrics as means over its tokens.

        Args:
            batch: completions of one lesson.
            items: completion tokens of the whole lesson; shares of all batches sum to the mean over them.

        Raises:
            TrainerError: the batch holds ids that the model does not know.
        """
        import torch

        size = self._model.get_input_embeddings().weight.shape[0]
        if max(batch.ids.max(), batch.prompts.max()) >= size or min(batch.ids.min(), batch.prompts.min()) < 0:
            raise TrainerError(f"The log holds token ids beyond the model's {size}; these weights did not sample them")
        self._use(batch.temperature)
        device = self._model.device
        mask = torch.from_numpy(batch.mask).to(device)
        old = torch.from_numpy(batch.logprobs).to(device)
        last = batch.prompts[batch.prompt, batch.lengths[batch.prompt] - 1]
        inputs = {
            "prompt_ids": torch.from_numpy(last).to(device)[:, None],
            "prompt_mask": torch.ones_like(mask[:, :1]),
            "completion_ids": torch.from_numpy(batch.ids).to(device),
            "completion_mask": mask,
            "old_per_token_logps": old,
            "advantages": torch.from_numpy(batch.advantages).to(device),
            "num_items_in_batch": torch.tensor(float(items), device=device),
        }
        loss = self._trainer._compute_loss(self._after_prompts(batch), inputs)
        kept = self._trainer._metrics["train"]
        metrics = {ours: float(kept[theirs][-1]) for ours, theirs in _METRICS.items()}
        kept.clear()
        assert self._logprobs is not None
        metrics[DRIFT] = float(((self._logprobs - old).abs() * mask).sum() / mask.sum())
        return loss, metrics

    def _after_prompts(self, batch: Batch) -> Callable[..., Any]:
        """The model as TRL is to call it: with all but the last token of every prompt read already, once for its group."""
        import torch

        model: Callable[..., Any] = self._model
        device = self._model.device
        prefixes = torch.from_numpy(batch.prompts[:, :-1]).to(device)
        if prefixes.shape[1] == 0:
            return model
        # Right padding needs no mask here: a causal model does not look ahead.
        cache = self._model.base_model(input_ids=prefixes, use_cache=True).past_key_values
        rows = torch.from_numpy(batch.prompt).to(device)
        cache.batch_select_indices(rows)
        known = torch.from_numpy(batch.lengths).to(device)[rows][:, None] - 1
        read = torch.arange(prefixes.shape[1], device=device)[None, :] < known

        def call(*, input_ids: Tensor, attention_mask: Tensor, **rest: Any) -> Any:
            return model(
                input_ids=input_ids,
                attention_mask=torch.cat([read.to(attention_mask), attention_mask], dim=1),
                position_ids=known + torch.arange(input_ids.shape[1], device=device)[None, :],
                past_key_values=cache,
                **rest,
            )

        return call

    def _keep_logprobs(self, *args: Any, **kwargs: Any) -> Any:
        found = self._score(*args, **kwargs)
        self._logprobs = found[0].detach()
        return found

    def _use(self, temperature: float) -> None:
        """Score tokens under the distribution they were sampled from; TRL fixes one temperature a model."""
        from trl.trainer.utils import add_fused_lm_head

        if temperature not in self._forward:
            self._model.forward = self._plain
            add_fused_lm_head(self._model, temperature=temperature, outputs=("log_probs", "entropy"))
            self._forward[temperature] = self._model.forward
        self._model.forward = self._forward[temperature]


def _unused_reward(**_: object) -> list[float]:
    """GRPOTrainer demands a reward function; rewards come from the log, so nobody calls it."""
    raise AssertionError
