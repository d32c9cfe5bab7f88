"""One optimizer step: the gradient of a step batch, clipped, through AdamW whose moments are carried from step to step.

Guarantees: no randomness and a fixed order, so that equal batches on equal weights give equal bits on a CPU. There is no state
but the weights, the moments (kept beside them by parameter name) and two counts: Adam's steps, which the warm-up follows, and
the policy's steps in this run, which the schedule follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import TrainerError
from events.facts.log import ProgressCallback, ignore_progress
from events.facts.values import OptimizerStep
from events.facts.weights import OPTIMIZER_FILE
from graph.settings.config import LearnSettings
from trainer.data.micro_batches import micro_batches_of
from trainer.data.step_batches import StepBatch
from trainer.learn.importance import MISMATCH_MAX, step_metrics
from trainer.parallel.distributed import SINGLE_PROCESS, World
from trainer.parallel.fsdp import full_tensor, is_sharded, local_shard

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

    from trainer.learn.loss import PolicyLoss

BETAS: Final = (0.9, 0.98)
"""Decay of AdamW's moments: that of the pocket model's pretraining, whose second moments are carried on."""
_SECOND_MOMENT: Final = {"adamw": "exp_avg_sq", "adamw_8bit": "state2"}
"""Each optimizer's name for its second moments."""


class Adam:
    """AdamW without weight decay over the parameters of a model that require a gradient."""

    def __init__(
        self,
        model: Module,
        settings: LearnSettings,
        carried: Mapping[str, Tensor] | None,
        *,
        policy: str = "shared",
        taken: int = 0,
    ) -> None:
        """Load moments: `<parameter>.exp_avg_sq`, a scalar `step`, and `<parameter>.exp_avg` where kept.

        Those that are `carried` are in the shape of their parameters, None for zeros; those of another kind of optimizer are
        ignored. The learning rate is that of `policy`, which has made `taken` optimizer steps since the run began.

        Raises:
            TrainerError: the moments are not this model's, or the optimizer is not installed.
        """
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._settings = settings
        self._rate = settings.rate_of(policy)
        self._taken = taken
        self._torch = _new_optimizer(list(self._parameters.values()), settings)
        self.steps = 0
        """Steps that the moments have accumulated."""
        others = {f".{name}" for kind, name in _SECOND_MOMENT.items() if kind != settings.optimizer}
        if carried is not None and not any(name.endswith(tuple(others)) for name in carried):
            self._load(carried)

    def _load(self, carried: Mapping[str, Tensor]) -> None:
        try:
            self.steps = int(carried["step"])
            for name, parameter in self._parameters.items():
                state = self._torch.state[parameter]
                state["step"] += self.steps
                for key, blank in _moments(state).items():
                    value = carried.get(f"{name}.{key}", blank) if key == "exp_avg" else carried[f"{name}.{key}"]
                    if value.shape != blank.shape:
                        raise TrainerError(f"The optimizer's moments of {name} have another shape; restore {OPTIMIZER_FILE}.")
                    state[key] = local_shard(value, blank)
        except KeyError as error:
            raise TrainerError(f"{OPTIMIZER_FILE} has no {error}; restore it, or start from weights without it.") from error

    def step(self, world: World = SINGLE_PROCESS) -> dict[str, float]:
        """Sum gradients over processes, clip them, take one step, and clear them.

        Raises:
            TrainerError: the gradient is not a number.
        """
        import torch

        world.sum_gradients(self._parameters.values())
        norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_grad_norm)))
        if not math.isfinite(norm):
            raise TrainerError(
                f"The gradient norm is {norm} at Adam step {self.steps + 1}, and a run keeps its settings; start a new one with"
                " a lower learn.learning_rate, or learn what was played by `gasp train --offline RUN` with --set."
            )
        warm_up = min(1.0, (self.steps + 1) / max(1, self._settings.warm_up))
        rate = self._rate * warm_up * schedule_factor(self._settings, self._taken)
        self._torch.param_groups[0]["lr"] = rate
        self._torch.step()
        self._torch.zero_grad()
        self.steps += 1
        self._taken += 1
        return {"grad_norm": norm, "learning_rate": rate}

    def moments(self) -> dict[str, Tensor]:
        """The state that the next step needs, by name; each tensor has its parameter's shape, `step` none."""
        import torch

        moments = {"step": torch.tensor(float(self.steps))}
        for name, parameter in self._parameters.items():
            kept = _moments(self._torch.state[parameter])
            moments.update({f"{name}.{key}": value.detach() for key, value in kept.items()})
        return moments


def schedule_factor(settings: LearnSettings, taken: int) -> float:
    """The factor in [0, 1] by which the schedule scales the learning rate, after `taken` steps of the run."""
    progress = min(1.0, taken / settings.schedule_steps)
    factors = {"constant": 1.0, "linear": 1.0 - progress, "cosine": (1.0 + math.cos(math.pi * progress)) / 2}
    return factors[settings.schedule]


def _new_optimizer(parameters: list[Parameter], settings: LearnSettings) -> Optimizer:
    """The optimizer, with moments of zero."""
    import torch

    if settings.optimizer == "adamw":
        adamw = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
        for value in parameters:
            moments = {name: torch.zeros_like(value) for name in ("exp_avg", "exp_avg_sq")}
            adamw.state[value] = {"step": torch.tensor(0.0), **moments}
        return adamw
    if any(map(is_sharded, parameters)):
        raise TrainerError(f"learn.optimizer = {settings.optimizer} cannot shard its moments; take adamw, or do not shard.")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise TrainerError(
            f"learn.optimizer = {settings.optimizer} needs bitsandbytes ({error}); pip install 'gasp[8bit]', or take adamw."
        ) from error
    eight: Any = AdamW8bit(parameters, lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
    for index, value in enumerate(parameters):
        eight.init_state(eight.param_groups[0], value, 0, index)
    return eight  # type: ignore[no-any-return]  # bitsandbytes is untyped


def _moments(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The moments of one parameter, without step count and quantization maps."""
    return {name: value for name, value in state.items() if name != "step" and not name.startswith("qmap")}


def take_step(
    batch: StepBatch,
    loss: PolicyLoss,
    adam: Adam,
    batch_tokens: int,
    world: World = SINGLE_PROCESS,
    *,
    progress: ProgressCallback = ignore_progress,
) -> OptimizerStep:
    """Take the optimizer step of a batch, unless it has no rollouts to learn from."""
    metrics = evaluate_loss(batch, loss, batch_tokens, world, backward=True, progress=progress)
    return describe_step(batch, {**metrics, **adam.step(world)} if metrics else {})


def describe_step(batch: StepBatch, metrics: Mapping[str, float]) -> OptimizerStep:
    """The record of a step on this batch."""
    return OptimizerStep(
        phase=batch.phase,
        groups=batch.groups,
        silent_groups=batch.silent_groups,
        silent=dict(batch.silent),
        samples=len(batch.rollouts),
        tokens=batch.learned_tokens,
        reward=batch.reward,
        metrics=dict(metrics),
    )


def evaluate_loss(
    batch: StepBatch,
    loss: PolicyLoss,
    batch_tokens: int,
    world: World = SINGLE_PROCESS,
    *,
    backward: bool = False,
    progress: ProgressCallback = ignore_progress,
) -> dict[str, float]:
    """The loss of a batch and its metrics, empty without rollouts; `backward` accumulates the gradient in the parameters."""
    import torch

    # Means of micro-batches weighted by their tokens, so that how a batch is cut changes no metric.
    sums = {"loss": 0.0, "tokens": 0.0}
    largest = {MISMATCH_MAX: 0.0}
    shared = loss.reads_prompt_once
    passes = [(micro, 1) for micro in micro_batches_of(world.share(batch.rollouts), batch_tokens, shared=shared)]
    # A process with fewer passes computes the first rollout again, with weight 0, to take part in every collective operation.
    padding = [(micro, 0) for micro in micro_batches_of(batch.rollouts[:1], batch_tokens, shared=shared)]
    passes += padding * world.padding_passes(len(passes))
    done, total_tokens = 0, sum(micro.tokens for micro, _ in passes)
    for micro, weight in passes:
        with torch.set_grad_enabled(backward):
            share, metrics = loss(micro, batch)
        if backward:
            (share * weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        sums["loss"] += float(share.detach()) * weight
        sums["tokens"] += micro.tokens * weight
        largest[MISMATCH_MAX] = max(largest[MISMATCH_MAX], metrics.pop(MISMATCH_MAX, 0.0) * weight)
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value * micro.tokens * weight
        done += micro.tokens
        progress(done, total_tokens)
    sums = world.reduce(sums, "SUM")
    total, tokens = sums.pop("loss"), sums.pop("tokens")
    if not tokens:
        return {}
    means = step_metrics({name: value / tokens for name, value in sums.items()})
    largest = world.reduce(largest, "MAX")
    # Nobody sampled a given text, so that there is nothing to compare.
    return {"loss": total, **means, **({} if batch.phase == "text" else largest)}
