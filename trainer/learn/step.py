"""One optimizer step: gradients of a lesson, clipped, through AdamW with its moments carried from step to step.

Law: seeded and sequential, so that equal lessons on equal weights give equal bits on a CPU. Moments live beside the
weights by parameter name. The learning rate follows from two counts: Adam's steps, since a cold Adam takes full-size steps
in directions of noise and has to warm up, and the policy's steps in this run, by which the schedule goes. Nothing is drawn
at random, so that there is no other state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from events.facts.errors import TrainerError
from events.facts.values import OptimizerStep
from events.facts.weights import OPTIMIZER_FILE
from graph.settings.config import LearnSettings
from trainer.data.credited_samples import StepBatch
from trainer.data.micro_batches import micro_batches_of
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
Progress = Callable[[int, int], None]
"""Told after every forward and backward pass how many completion tokens are done, and of how many."""
_SECOND_MOMENT: Final = {"adamw": "exp_avg_sq", "adamw_8bit": "state2"}
"""What each optimizer calls its second moments."""


class Adam:
    """AdamW without weight decay over those parameters of a model that are to learn."""

    def __init__(
        self,
        model: Module,
        settings: LearnSettings,
        carried: Mapping[str, Tensor] | None,
        *,
        policy: str = "shared",
        taken: int = 0,
    ) -> None:
        """Take up `carried` moments: `<parameter>.exp_avg_sq`, a scalar `step`, and `<parameter>.exp_avg` where kept.

        Args:
            model: whose parameters; those that take no gradient stay out.
            settings: learning rate, schedule and kind of optimizer.
            carried: the moments, None to begin cold; those of another kind of optimizer are of no use and left.
            policy: whose learning rate it is.
            taken: steps of the policy since the run began.

        Raises:
            TrainerError: the moments are not this model's, or the optimizer is not installed.
        """
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._settings = settings
        self._rate = settings.rate_of(policy)
        self._taken = taken
        self._torch = _new_optimizer(list(self._parameters.values()), settings)
        self.steps = 0
        """Steps that the moments are made of."""
        others = {f".{name}" for kind, name in _SECOND_MOMENT.items() if kind != settings.optimizer}
        if carried is not None and not any(name.endswith(tuple(others)) for name in carried):
            self._take_up(carried)

    def _take_up(self, carried: Mapping[str, Tensor]) -> None:
        try:
            self.steps = int(carried["step"])
            for name, parameter in self._parameters.items():
                state = self._torch.state[parameter]
                state["step"] += self.steps
                for key, blank in _moments(state).items():
                    value = carried.get(f"{name}.{key}", blank) if key == "exp_avg" else carried[f"{name}.{key}"]
                    if value.shape != blank.shape:
                        raise TrainerError(f"The optimizer's moments of {name} have another shape; restore {OPTIMIZER_FILE}")
                    state[key] = local_shard(value, blank)
        except KeyError as error:
            raise TrainerError(
                f"{OPTIMIZER_FILE} has no {error}; restore it, or start a run from weights without it"
            ) from error

    def step(self, world: World = SINGLE_PROCESS) -> dict[str, float]:
        """Add up and clip the gradients, take one step, forget them.

        Raises:
            TrainerError: the gradient is not a number.
        """
        import torch

        world.add(self._parameters.values())
        norm = float(full_tensor(torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_grad_norm)))
        if not math.isfinite(norm):
            raise TrainerError(
                f"The gradient norm is {norm} at Adam step {self.steps + 1}, and a run keeps its settings; start a new one with"
                " a lower learn.learning_rate, or learn what was played by python -m trainer.run --offline RUN with --set"
            )
        rate = (
            self._rate
            * min(1.0, (self.steps + 1) / max(1, self._settings.warm_up))
            * schedule_factor(self._settings, self._taken)
        )
        self._torch.param_groups[0]["lr"] = rate
        self._torch.step()
        self._torch.zero_grad()
        self.steps += 1
        self._taken += 1
        return {"grad_norm": norm, "learning_rate": rate}

    def moments(self) -> dict[str, Tensor]:
        """What has to lie beside the weights for the next step to be the same."""
        import torch

        found = {"step": torch.tensor(float(self.steps))}
        for name, parameter in self._parameters.items():
            kept = _moments(self._torch.state[parameter])
            found.update({f"{name}.{key}": value.detach() for key, value in kept.items()})
        return found


def schedule_factor(settings: LearnSettings, taken: int) -> float:
    """The share of the learning rate that the schedule leaves for the next step, after so many of the run."""
    local_shard = min(1.0, taken / settings.schedule_steps)
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - local_shard
        case "cosine":
            return (1.0 + math.cos(math.pi * local_shard)) / 2


def _new_optimizer(parameters: list[Parameter], settings: LearnSettings) -> Optimizer:
    """The optimizer, with moments of zeros."""
    import torch

    if settings.optimizer == "adamw":
        found = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
        for value in parameters:
            moments = {name: torch.zeros_like(value) for name in ("exp_avg", "exp_avg_sq")}
            found.state[value] = {"step": torch.tensor(0.0), **moments}
        return found
    if any(map(is_sharded, parameters)):
        raise TrainerError(f"learn.optimizer = {settings.optimizer} cannot hold moments in parts; take adamw, or do not shard")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise TrainerError(
            f"learn.optimizer = {settings.optimizer} needs bitsandbytes ({error}); pip install 'gasp[8bit]', or take adamw"
        ) from error
    eight: Any = AdamW8bit(parameters, lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
    for place, value in enumerate(parameters):
        eight.init_state(eight.param_groups[0], value, 0, place)
    return eight  # type: ignore[no-any-return]  # bitsandbytes is untyped


def _moments(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an optimizer holds of one parameter, without its step count and the constants of its code."""
    return {name: value for name, value in state.items() if name != "step" and not name.startswith("qmap")}


def ignore_progress(done: int, total: int) -> None:
    """A progress that nobody is told."""


def take_step(
    lesson: StepBatch,
    loss: PolicyLoss,
    adam: Adam,
    batch_tokens: int,
    world: World = SINGLE_PROCESS,
    *,
    progress: Progress = ignore_progress,
) -> OptimizerStep:
    """Take the optimizer step of a lesson, or none where it has no signal."""
    metrics = evaluate_loss(lesson, loss, batch_tokens, world, learning=True, progress=progress)
    return OptimizerStep(
        phase=lesson.phase,
        groups=lesson.groups,
        silent_groups=lesson.silent_groups,
        silent=dict(lesson.silent),
        samples=len(lesson.credited),
        tokens=sum(len(one.sample.ids) for one in lesson.credited),
        reward=lesson.reward,
        metrics={**metrics, **adam.step(world)} if metrics else {},
    )


def evaluate_loss(
    lesson: StepBatch,
    loss: PolicyLoss,
    batch_tokens: int,
    world: World = SINGLE_PROCESS,
    *,
    learning: bool = False,
    progress: Progress = ignore_progress,
) -> dict[str, float]:
    """The loss of a lesson and its metrics, nothing of nothing; `learning` leaves the gradient in the weights."""
    import torch

    sums = {"loss": 0.0, "tokens": 0.0}
    largest = {MISMATCH_MAX: 0.0}
    shared = loss.reads_prompt_once
    passes = [(batch, 1) for batch in micro_batches_of(world.share(lesson.credited), batch_tokens, shared=shared)]
    # Where others make more, a process computes the first completion again, which does not count.
    passes += [(batch, 0) for batch in micro_batches_of(lesson.credited[:1], batch_tokens, shared=shared)] * world.missing(
        len(passes)
    )
    done, most = 0, sum(batch.tokens for batch, _ in passes)
    for batch, weight in passes:
        with torch.set_grad_enabled(learning):
            share, metrics = loss(batch, lesson)
        if learning:
            (share * weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        sums["loss"] += float(share.detach()) * weight
        sums["tokens"] += batch.tokens * weight
        largest[MISMATCH_MAX] = max(largest[MISMATCH_MAX], metrics.pop(MISMATCH_MAX) * weight)
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value * batch.tokens * weight
        done += batch.tokens
        progress(done, most)
    sums = world.sums(sums)
    total, tokens = sums.pop("loss"), sums.pop("tokens")
    if not tokens:
        return {}
    return {"loss": total, **step_metrics({name: value / tokens for name, value in sums.items()}), **world.largest(largest)}
