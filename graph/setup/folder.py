"""The folder of a run: its weights, its lock, and its log or the log's URL.

Guarantees: a new folder is there whole or not at all; one process at a time plays a run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from events.cli.app import LOG_NAME, URL_NAME, holds_log, open_run
from events.facts.errors import BadInput
from events.facts.log import Log, run_started
from events.facts.streams import RUN
from events.facts.types import RunStarted
from events.facts.weights import optimizer_digest
from events.stores import open_log
from events.stores.raw import Store
from events.text.validation import first_problem
from graph.estimate.memory import MOMENT_BYTES
from graph.settings.config import Config
from graph.settings.model_location import copy_weights
from graph.settings.paths import with_absolute_paths, working_directory
from graph.settings.refusals import refuse_unworkable
from graph.settings.threads import weight_count
from graph.settings.upcast import removed_settings
from graph.setup.provenance import commit, versions
from graph.setup.run_inputs import RunInputs, read_inputs

MIN_FREE_BYTES = 500 * 2**20
"""Bytes that must be free on disk before a run starts, besides those of weights."""


def find_run(name: str, runs: Path) -> Path | None:
    """The folder of a run, by its path or by its name in the folder `runs`; None if there is none."""
    return next((folder for folder in (Path(name), runs / name) if name and holds_log(folder)), None)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the run for this process; BadInput if another process plays it."""
    with (folder / "run.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"Run {folder} is being played by another process; wait for it or stop it first.") from error
        yield


def create_run(folder: Path, config: Config, inputs: RunInputs, url: str | None = None, *, learns: bool = True) -> Store:
    """Create a run: its folder, a copy of the first weights, and the first event of its log.

    Args:
        folder: the new folder; must not exist.
        config: the settings.
        inputs: the inputs.
        url: the database that gets the log; None keeps it in the folder.
        learns: whether the first weights are copied into the run.

    Raises:
        BadInput: the folder exists or cannot be made, the settings cannot work with the model, the disk is full, or the
            database has a run of this name.
        LogError: the database cannot be used.
    """
    if folder.exists():
        raise BadInput(f"Run folder {folder} exists; choose another --name, or go on with --resume {shlex.quote(str(folder))}.")
    refuse_unworkable(config, inputs.model)
    with new_folder(folder) as unfinished:
        needed = MIN_FREE_BYTES + (_weights_bytes(config, inputs.model) if learns else 0)
        if shutil.disk_usage(unfinished).free < needed:
            raise BadInput(f"Less than {needed // 2**20} MiB are free where {folder} would be; free some, or set --runs.")
        if learns:
            copy_weights(inputs.model, unfinished / "weights" / inputs.digest)
        if url is not None:
            (unfinished / URL_NAME).write_text(f"{url}\n")
        _start_log(url or unfinished / LOG_NAME, config, inputs)
    return open_run(str(folder))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which becomes `folder` at the end, or is removed on failure; BadInput if it cannot be made."""
    unfinished = folder.parent / f".new-{os.getpid()}"
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        # Before the rename: a folder that has its name is whole, even after a power failure.
        os.sync()
        unfinished.rename(folder)
    except OSError as error:
        raise BadInput(f"Run folder {folder} cannot be made: {error}; choose another --runs, or make room.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _weights_bytes(config: Config, model: Path) -> int:
    """Bytes of a copy of the first weights and of one update of each policy; adapters are too small to count."""
    policies = 0 if config.learn.lora.rank else len(set(config.policy_of.values()))
    written = 4 + MOMENT_BYTES[config.learn.optimizer]
    return sum(file.stat().st_size for file in model.glob("*.safetensors")) + policies * written * weight_count(model)


def _start_log(location: Path | str, config: Config, inputs: RunInputs) -> None:
    optimizer = optimizer_digest(inputs.model)
    fact = RunStarted(
        config=json.loads(config.model_dump_json()),
        versions=versions(config, inputs.model),
        commit=commit(),
        policies=dict.fromkeys(config.policy_of, inputs.digest),
        inputs=inputs.digests() | ({} if optimizer is None else {"optimizer": optimizer}),
        dequantised=inputs.dequantised,
    )
    with closing(open_log(location, create=True)) as log:
        if log.head().position:
            raise BadInput("The database holds a run of this name; choose another --name, or another `run=` in the URL.")
        log.append(RUN, [fact], expected=0, observed=working_directory())


def reopen_run(folder: Path) -> tuple[Store, Config, RunInputs]:
    """An existing run with its config and inputs; BadInput if it is missing or of another version, or an input has changed."""
    if not holds_log(folder):
        raise BadInput(f"There is no run in {folder} (no {LOG_NAME}, no {URL_NAME}); give the folder or the name of a run.")
    log = open_run(str(folder))
    config, inputs = recorded_run(folder, log)
    return log, config, inputs


def recorded_run(folder: Path, log: Log) -> tuple[Config, RunInputs]:
    """Config and inputs of the run of a log, with its weights in a folder; BadInput as for `reopen_run`."""
    first = run_started(log)
    config = with_absolute_paths(recorded_settings(folder, first), log)
    if first.sources:
        raise BadInput(f"{folder} is trained offline and plays nothing; go on with gasp train {shlex.quote(str(folder))}")
    if removed := removed_settings(first.config):
        raise BadInput(f"{folder} was started with a setting {removed[0]} that this version lacks; go on with the old version.")
    inputs = read_inputs(config, folder / "weights" / first.policies["student"])
    changed = sorted(name for name, digest in inputs.digests().items() if first.inputs.get(name) != digest)
    if changed:
        raise BadInput(f"The {changed[0]} of {folder} changed since the run started; put the old files back, or start anew.")
    return config, inputs


def recorded_settings(folder: Path, first: RunStarted) -> Config:
    """The settings that the run in a folder was started with; BadInput if they are of another version."""
    try:
        return Config.recorded(first.config)
    except ValidationError as error:
        key, _ = first_problem(error)
        raise BadInput(f"The run in {folder} has a setting {key!r} that this version does not take; use its own.") from error
