"""Logprob mismatch: checks that logged logprobs are those of the weights that the log says sampled.

It runs on the first step of every update, before the weights are saved, on metrics that the loss computes anyway. A stale
server or a wrong temperature shows in the mean, one altered token in the maximum.
"""

from __future__ import annotations

from collections.abc import Mapping

from events.facts.errors import TrainerError
from graph.play.weight_sync import MEAN_LIMIT
from graph.settings.config import Config
from trainer.data.step_batches import StepBatch
from trainer.learn.importance import MISMATCH_MAX, MISMATCH_MEAN


def check_mismatch(batch: StepBatch, metrics: Mapping[str, float], config: Config) -> None:
    """Compare logged logprobs with recomputed ones, by the metrics of the batch's loss under the sampling weights.

    Raises:
        TrainerError: they differ by more than arithmetic explains.
    """
    for name, what, limit in ((MISMATCH_MEAN, "on average", MEAN_LIMIT), (MISMATCH_MAX, "in one token", config.mismatch_limit)):
        if metrics[name] > limit:
            rollout = batch.rollouts[0]
            raise TrainerError(
                f"The logprobs of completions such as {rollout.stream} version {rollout.version} differ by"
                f" {metrics[name]:.3f} nats {what} from those of {rollout.policy}, which the log says sampled them; the model"
                f" server is wrong, restart it (or, where it computes in low precision, raise learn.drift from {limit})."
            )
