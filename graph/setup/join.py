"""Joining a run as a further player: the run's log, settings and inputs, checked against what it was started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from events.cli.app import holds_log, open_run
from events.facts.errors import BadInput
from events.facts.types import RunStarted
from events.stores import is_url
from events.stores.raw import Store
from graph.settings.config import Config
from graph.setup.assemble import RunInputs, run_started
from graph.setup.folder import recorded_run
from graph.setup.provenance import commit, versions


@dataclass(frozen=True)
class JoinedRun:
    """A run that is played by others, opened."""

    folder: Path
    """Where its weights are, in `weights/`, and where the player writes its own log."""
    log: Store
    config: Config
    inputs: RunInputs


def join_run(where: str, runs: Path, folder: Path | None) -> JoinedRun:
    """Open a run to play shares of it.

    Args:
        where: its name, its folder, or the URL of its log.
        runs: the folder that names are looked for in.
        folder: where its weights are, if `where` is a URL.

    Raises:
        BadInput: there is no such run, it has one share only, or this player has other inputs or versions.
        LogError: the log cannot be read.
    """
    if not is_url(where):
        folder = next((path for path in (Path(where), runs / where) if holds_log(path)), None)
        if folder is None:
            raise BadInput(f"There is no run {where!r} to join; give its folder, its name, or the URL of its log.")
    if folder is None or not (folder / "weights").is_dir():
        raise BadInput(f"{folder or where} holds no weights of the run; name its folder, as seen from here, by --weights.")
    log = open_run(where if is_url(where) else str(folder))
    try:
        first = run_started(log)
        weights = folder / "weights"
        config, inputs = recorded_run(folder, log)
        if config.play.shares == 1:
            raise BadInput(f"The run {where} has one share, which one process plays; start runs with --set play.shares=4.")
        if config.serve.urls:
            raise BadInput(
                "Players cannot share the servers of serve.urls yet; leave serve.urls empty, so that each starts its own."
            )
        _refuse_other_code(first, config, weights / first.policies["student"])
    except BaseException:
        log.close()
        raise
    return JoinedRun(folder, log, config, inputs)


def _refuse_other_code(first: RunStarted, config: Config, weights: Path) -> None:
    here = {**versions(config, weights), "commit": commit()}
    recorded = {**first.versions, "commit": first.commit}
    for name in sorted(recorded.keys() | here.keys()):
        if "unknown" not in (here.get(name), recorded.get(name)) and here.get(name) != recorded.get(name):
            raise BadInput(
                f"The run was started with {name} {recorded.get(name, 'absent')}, and this player has"
                f" {here.get(name, 'absent')}, which may sample other tokens; install what the run has."
            )
