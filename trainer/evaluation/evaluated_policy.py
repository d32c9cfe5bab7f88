"""Finds the policy to evaluate, of a run or a model, and the log that records its evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from events.cli.app import holds_log, open_run
from events.facts.digests import NAME_DIGITS, find_digest
from events.facts.errors import BadInput
from events.facts.log import Log, read_facts, run_started
from events.facts.types import PolicyProbed, PolicyUpdated
from graph.settings.config import Config
from graph.settings.configure import configure
from graph.settings.paths import with_absolute_paths
from graph.setup.folder import create_run, recorded_settings
from graph.setup.named_policies import Checkpoint, refuse_unknown_model
from graph.setup.run_inputs import read_inputs


@dataclass(frozen=True)
class EvaluatedPolicy:
    """The policy to evaluate, and the log that records it."""

    log: Log
    folder: Path
    config: Config
    checkpoint: Checkpoint


def policy_of_run(folder: Path, policy: str) -> EvaluatedPolicy:
    """A policy of a run, its student's newest unless one is named.

    Raises:
        BadInput: the run has no such policy, or its weights are gone.
    """
    log = open_run(str(folder))
    start = run_started(log)
    config = with_absolute_paths(recorded_settings(folder, start), log)
    learned = {start.policies["student"]: 0, start.policies["teacher"]: 0}
    newest = start.policies["student"]
    for update in read_facts(log, PolicyUpdated):
        learned[update.digest] = update.iteration
        newest = newest if update.policy == "teacher" else update.digest
    digest = find_digest(policy, learned, str(folder)) if policy else newest
    weights = folder / "weights" / digest
    if not weights.is_dir():
        raise BadInput(f"The weights {digest} are not in {weights.parent} any more; learn.keep says how many stay.")
    probe = next((probe for probe in read_facts(log, PolicyProbed) if probe.digest == digest), None)
    return EvaluatedPolicy(log, folder, config, Checkpoint(weights, digest, learned[digest], probe))


def policy_of_model(spec: str, file: Path | None, runs: Path) -> EvaluatedPolicy:
    """A model, and the log of its evaluations, which is created in `runs` if need be.

    Raises:
        BadInput: there is no such model, or the settings in `file` are wrong.
    """
    refuse_unknown_model(spec)
    config = configure(file, [f"model={json.dumps(spec)}"])
    run_inputs = read_inputs(config)
    folder = runs / f"evaluation-{run_inputs.digest[:NAME_DIGITS]}"
    log = open_run(str(folder)) if holds_log(folder) else create_run(folder, config, run_inputs, learns=False)
    return EvaluatedPolicy(log, folder, config, Checkpoint(run_inputs.model, run_inputs.digest))
