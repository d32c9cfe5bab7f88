"""Whether logged logprobs are those of the weights that are said to have sampled.

Law: checked before an update is saved, on the first lesson of every iteration, from figures that its loss has computed anyway.
A stale server or a wrong temperature shows in the mean, one altered token in the maximum.
"""

from __future__ import annotations

from collections.abc import Mapping

from events.facts.errors import TrainerError
from graph.play.weight_sync import MEAN_LIMIT
from graph.settings.config import Config
from trainer.data.credited_samples import StepBatch
from trainer.learn.importance import MISMATCH_MAX, MISMATCH_MEAN


def check_mismatch(lesson: StepBatch, metrics: Mapping[str, float], config: Config) -> None:
    """Compare what was logged with what the sampling weights find.

    Raises:
        TrainerError: they differ by more than arithmetic can.
    """
    for name, what, limit in ((MISMATCH_MEAN, "on average", MEAN_LIMIT), (MISMATCH_MAX, "in one token", config.mismatch_limit)):
        if metrics[name] > limit:
            sample = lesson.credited[0].sample
            raise TrainerError(
                f"The logprobs of iteration samples such as {sample.stream} version {sample.version} differ by"
                f" {metrics[name]:.3f} nats {what} from those of {sample.policy}, which is said to have sampled them; the"
                f" model server is wrong, restart it (or, where it computes in low precision, raise learn.drift from {limit})"
            )
