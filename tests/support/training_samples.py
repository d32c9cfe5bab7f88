"""Samples of the trainer, made again from a frame of attempts."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from trainer.data.replay import IterationRollouts, Rollout, RolloutGroup


def sample_digest(attempts: pl.DataFrame, after: int, until: int) -> str:
    """The digest of what an update consumed, by the trainer's own formula, from nothing but rows."""
    consumed = pl.col("reward_position").is_between(after + 1, until) & (pl.col("ending") != "failed")
    samples = tuple(map(_sample, attempts.filter(consumed).sort("reward_position", "index").iter_rows(named=True)))
    return IterationRollouts(0, after, until, {}, (RolloutGroup("solve", "student", "induction", (), until, samples),)).digest


def _sample(row: dict[str, Any]) -> Rollout:
    return Rollout(
        row["stream"],
        row["version"],
        row["index"],
        np.asarray(row["prompt_ids"], np.int32),
        np.asarray(row["completion_ids"], np.int32),
        np.asarray(row["logprobs"], np.float32),
        np.asarray(row["sampled"], np.bool_),
        row["role"],
        row["phase"],
        row["task"],
        row["reward"],
        row["policy"],
        row["temperature"],
    )
