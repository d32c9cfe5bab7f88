"""Curves and settings as a run of MLflow in a SQLite database, which `mlflow ui --backend-store-uri sqlite:///...` shows.

Guarantees: no network is used; times are those of the events. Writing needs `mlflow-skinny`, showing needs all of `mlflow`.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from events.export import atomic_folder, requires_extra
from events.export.metrics import RunCurves, run_curves
from events.facts.errors import LogError
from events.stores.raw import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "gasp"
"""The MLflow experiment that the run belongs to."""
PARAMS, METRICS = 100, 1000
"""How many of each MLflow takes in one call."""


def write(log: Store, out: Path, *, name: str) -> str:
    """Write a database with one run. See `events.export.Exporter`."""
    # mlflow reads it at import.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with requires_extra("mlflow"):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    run = run_curves(log)
    with atomic_folder(out) as folder:
        try:
            _fill(MlflowClient(tracking_uri=f"sqlite:///{folder.absolute()}/mlflow.db"), run, out, name)
        except (MlflowException, SQLAlchemyError) as error:
            message = str(error).strip().splitlines()[0]
            raise LogError(f"The export {out} cannot be written ({message}); name another folder with --out.") from error
    return f"curves of {name} to {out}; see them with: mlflow ui --backend-store-uri {quote(f'sqlite:///{out}/mlflow.db')}"


def _fill(client: MlflowClient, curves: RunCurves, out: Path, name: str) -> None:
    from mlflow.entities import Metric, Param

    at = _milliseconds(curves.started)
    experiment = client.create_experiment(EXPERIMENT, artifact_location=(out.absolute() / "artifacts").as_uri())
    run = client.create_run(experiment, start_time=at, run_name=name).info.run_id
    params = (Param(key, str(value)) for key, value in curves.settings.items())
    while batch := list(islice(params, PARAMS)):
        client.log_batch(run, params=batch)
    values = ((point, key, value) for point in curves.points for key, value in point.values.items())
    metrics = (Metric(key, value, _milliseconds(point.time), point.step) for point, key, value in values)
    while batch := list(islice(metrics, METRICS)):
        client.log_batch(run, metrics=batch)
        at = batch[-1].timestamp
    client.set_terminated(run, end_time=at)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
