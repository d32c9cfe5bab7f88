"""Curves and settings as an offline run of Weights & Biases; `wandb sync` can upload it.

Guarantees: no network is used, whatever the environment says; nothing describes the machine that exports. The id of the W&B run
follows from the name and the time of the log's first event, so that a later export of the run has the same id.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from events.export import atomic_folder, requires_extra
from events.export.metrics import run_curves
from events.stores.raw import Store

PROJECT = "gasp"
"""Project of the W&B run; `wandb sync --project` changes it."""


def write(log: Store, out: Path, *, name: str) -> str:
    """Write an offline run. See `events.export.Exporter`."""
    # Read by the process that wandb starts.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    with requires_extra("wandb"):
        import wandb

    started, config, points = run_curves(log)
    settings = wandb.Settings(
        mode="offline",
        silent=True,
        console="off",
        host="",
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    with atomic_folder(out) as folder:
        key = sha256(f"{name} {started.isoformat()}".encode()).hexdigest()[:16]
        run = wandb.init(project=PROJECT, id=key, name=name, config=config, dir=folder, settings=settings)
        run.define_metric("iteration")
        run.define_metric("*", step_metric="iteration")
        for point in points:
            run.log({"iteration": point.step, "_timestamp": point.time.timestamp(), **point.values})
        run.finish()
        wandb.teardown()
    return f"curves of {name} to {out}; to upload them: wandb sync {out}/wandb/offline-run-*"
