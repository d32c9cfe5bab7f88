"""Joining a run as a further player: the run's log, settings and inputs, checked against what it was started with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.facts.log import run_started
from events.facts.types import RunStarted
from events.facts.values import Digest
from events.stores import is_url, run_of_url
from events.stores.raw import Store
from graph.play.served_weights import last_served
from graph.settings.config import Config
from graph.setup.folder import find_run, recorded_run, recorded_settings
from graph.setup.provenance import commit, versions
from graph.setup.run_inputs import RunInputs
from graph.setup.weights_transfer import fetch_weights, remove_pruned


@dataclass(frozen=True)
class JoinedRun:
    """A run that is played by others, opened."""

    folder: Path
    """Where its weights are, in `weights/`, and where the player writes its own log."""
    log: Store
    config: Config
    inputs: RunInputs
    fetch: Callable[[Digest], None] | None = None
    """Brings weights into the folder where that is not the run's own."""


def join_run(where: str, runs: Path, weights: str | None) -> JoinedRun:
    """Open a run to play shares of it.

    Args:
        where: its name, its folder, or the URL of its log.
        runs: the folder that names are looked for in.
        weights: where its weights are, if `where` is a URL: the run's folder as seen from here, or the URL of its coordinator's
            server of weights, from which they are fetched into a folder in `runs`.

    Raises:
        BadInput: there is no such run, it has one share only, or this player has other inputs or versions.
        LogError: the log cannot be read.
    """
    fetched = weights is not None and weights.startswith(("http://", "https://"))
    if is_url(where):
        folder = runs / f"{run_of_url(where)}.player" if fetched else Path(weights or "")
    else:
        run_folder = find_run(where, runs)
        if run_folder is None:
            raise BadInput(f"There is no run {where!r} to join; give its folder, its name, or the URL of its log.")
        folder = run_folder
    store = folder / "weights"
    if not fetched and (weights == "" or not store.is_dir()):
        raise BadInput(f"{weights or where} holds no weights of the run; name its folder, as seen from here, by --weights.")
    log = open_run(where if is_url(where) else str(folder))
    try:
        first = run_started(log)
        fetch = partial(_fetch, str(weights).rstrip("/"), log, store) if fetched else None
        shares_servers = bool(recorded_settings(folder, first).serve.urls)
        if fetch is not None:
            for policy in {*first.policies.values(), *(() if shares_servers else last_served(log).values())}:
                fetch(policy)
        config, inputs = recorded_run(folder, log)
        if config.play.shares == 1:
            raise BadInput(f"The run {where} has one share, which one process plays; start runs with --set play.shares=4.")
        if shares_servers and config.serve.sleep:
            raise BadInput(
                "With serve.sleep the coordinator puts servers to sleep that others sample from; start such runs without it."
            )
        _refuse_other_code(first, config, store / first.policies["student"])
    except BaseException:
        log.close()
        raise
    # Servers that the coordinator has load weights need none from a player.
    return JoinedRun(folder, log, config, inputs, None if shares_servers else fetch)


def _fetch(url: str, log: Store, store: Path, digest: Digest) -> None:
    fetch_weights(url, digest, store)
    remove_pruned(log, store)


def _refuse_other_code(first: RunStarted, config: Config, weights: Path) -> None:
    here = {**versions(config, weights), "commit": commit()}
    recorded = {**first.versions, "commit": first.commit}
    for name in sorted(recorded.keys() | here.keys()):
        if "unknown" not in (here.get(name), recorded.get(name)) and here.get(name) != recorded.get(name):
            raise BadInput(
                f"The run was started with {name} {recorded.get(name, 'absent')}, and this player has"
                f" {here.get(name, 'absent')}, which may sample other tokens; install what the run has."
            )
