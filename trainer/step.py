"""One optimizer step: gradients of a lesson, clipped, through AdamW with its moments carried from step to step.

Law: seeded and sequential, so that equal lessons on equal weights give equal bits on a CPU. Moments live beside the
weights by parameter name; where the weights come without any, the learning rate warms up over the first ten steps,
because a cold Adam takes full-size steps in directions of noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from events.errors import TrainerError
from events.types import StepTaken
from graph.config import LearnSettings
from trainer.batch import batches
from trainer.credit import Lesson
from trainer.importance import settled

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from trainer.trl import PolicyLoss

BETAS: Final = (0.9, 0.98)
"""Decay of AdamW's moments: that of the pocket model's pretraining, whose second moments are carried on."""
WARM_UP: Final = 10
"""Steps of linear warm-up, counted by Adam itself: carried moments are warm already."""


class Adam:
    """AdamW without weight decay over all parameters of a model."""

    def __init__(self, model: Module, settings: LearnSettings, carried: Mapping[str, Tensor] | None) -> None:
        """Take up `carried` moments: `<parameter>.exp_avg_sq`, a scalar `step`, and `<parameter>.exp_avg` where kept.

        Raises:
            TrainerError: the moments are not this model's.
        """
        import torch

        self._parameters = dict(model.named_parameters())
        self._settings = settings
        self._torch = torch.optim.AdamW(self._parameters.values(), lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
        self.steps = 0
        """Steps that the moments are made of."""
        if carried is not None:
            self._take_up(carried)

    def _take_up(self, carried: Mapping[str, Tensor]) -> None:
        import torch

        try:
            self.steps = int(carried["step"])
            for name, parameter in self._parameters.items():
                first = carried.get(f"{name}.exp_avg", torch.zeros_like(parameter))
                second = carried[f"{name}.exp_avg_sq"]
                if first.shape != parameter.shape or second.shape != parameter.shape:
                    raise TrainerError(f"The optimizer's moments of {name} have another shape; restore optimizer.safetensors")
                self._torch.state[parameter] = {
                    "step": torch.tensor(float(self.steps)),
                    "exp_avg": first.to(parameter).clone(),
                    "exp_avg_sq": second.to(parameter).clone(),
                }
        except KeyError as error:
            raise TrainerError(f"optimizer.safetensors has no {error}; restore it, or remove it to warm up anew") from error

    def step(self) -> dict[str, float]:
        """Clip the gradients, take one step, forget them.

        Raises:
            TrainerError: the gradient is not a number.
        """
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_grad_norm))
        if not math.isfinite(norm):
            raise TrainerError(f"The gradient norm is {norm} at Adam step {self.steps + 1}; lower learn.learning_rate")
        rate = self._settings.learning_rate * min(1.0, (self.steps + 1) / WARM_UP)
        self._torch.param_groups[0]["lr"] = rate
        self._torch.step()
        self._torch.zero_grad()
        self.steps += 1
        return {"grad_norm": norm, "learning_rate": rate}

    def moments(self) -> dict[str, Tensor]:
        """What has to lie beside the weights for the next step to be the same."""
        import torch

        found = {"step": torch.tensor(float(self.steps))}
        for name, parameter in self._parameters.items():
            state = self._torch.state.get(parameter, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                found[f"{name}.{moment}"] = state.get(moment, torch.zeros_like(parameter)).detach().cpu()
        return found


def learn(lesson: Lesson, loss: PolicyLoss, adam: Adam, batch_tokens: int) -> StepTaken:
    """Take the optimizer step of a lesson, or none where it has no signal."""
    sums: dict[str, float] = {}
    total = 0.0
    tokens = 0
    for batch in batches(lesson.credited, batch_tokens):
        share, metrics = loss(batch, lesson)
        share.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += float(share.detach())
        tokens += batch.tokens
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value * batch.tokens
    means = settled({name: value / tokens for name, value in sums.items()})
    return StepTaken(
        phase=lesson.phase,
        groups=lesson.groups,
        silent_groups=lesson.silent_groups,
        silent=dict(lesson.silent),
        samples=len(lesson.credited),
        tokens=tokens,
        reward=lesson.reward,
        metrics={"loss": total, **adam.step(), **means} if tokens else {},
    )
