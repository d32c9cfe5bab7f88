"""Finds policies by name: `MODEL`, `RUN` (all weights that it has kept) or `RUN@DIGEST`.

A run is read, never changed.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from events.cli.app import open_run
from events.facts.digests import find_digest
from events.facts.errors import BadInput
from events.facts.log import read_facts, run_started
from events.facts.types import PolicyProbed, PolicyUpdated
from events.facts.values import Digest
from events.facts.weights import weights_digest
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from graph.settings.gguf_folder import is_gguf
from graph.settings.model_location import model_folder
from graph.setup.folder import find_run, recorded_settings
from roles.model import Model
from roles.questions.pocket_folders import POCKET_FOLDERS


@dataclass(frozen=True)
class Checkpoint:
    """A policy's weights after some iterations."""

    weights: Path
    policy: Digest
    iteration: int = 0
    probe: PolicyProbed | None = None
    """The trainer's logprobs for the weight-sync check; None where no trainer made the weights."""


@dataclass(frozen=True)
class NamedPolicies:
    """Checkpoints that one model can load, one after the other."""

    name: str
    config: Config
    """Settings by which they are loaded and sampled from."""
    checkpoints: tuple[Checkpoint, ...]


async def load_checkpoint(model: Model, name: str, checkpoint: Checkpoint, checker: WeightSyncChecker) -> None:
    """Load a checkpoint into a model; ModelError if the trainer's logprobs, where there are some, differ."""
    if model.policy != checkpoint.policy:
        await model.load_weights(checkpoint.weights, checkpoint.policy)
    if checkpoint.probe is not None:
        await checker.check(name, model, checkpoint.probe)


def refuse_unknown_model(name: str) -> None:
    """Check that a name that is no run's can be a model's; BadInput if it cannot."""
    if name not in POCKET_FOLDERS and "/" not in name and not is_gguf(name) and not Path(name).is_dir():
        raise BadInput(
            f"There is neither a run nor a model {name!r}; give the name or folder of a run, `pocket`, a folder, a GGUF file,"
            " or a name of the hub such as Qwen/Qwen2.5-Coder-7B."
        )


def find_policies(name: str, runs: Path, config: Config) -> NamedPolicies:
    """The policies of a name: `RUN`, `RUN@DIGEST`, or a model; BadInput if their weights are not on disk.

    Runs are looked for in the folder `runs`; a run's `learn` replaces that of `config`.
    """
    run, _, digest = name.partition("@")
    if (folder := find_run(run, runs)) is not None:
        return run_policies(folder, config, digest)
    refuse_unknown_model(name)
    weights = model_folder(name)
    return NamedPolicies(name, config, (Checkpoint(weights, weights_digest(weights)),))


def run_policies(folder: Path, config: Config, digest: str = "") -> NamedPolicies:
    """The kept weights of a run's student, or those whose digest starts with `digest`; BadInput unless there are some."""
    with closing(open_run(str(folder))) as log:
        first = run_started(log)
        learned = {first.policies["student"]: 0}
        for update in read_facts(log, PolicyUpdated):
            if update.policy != "teacher":
                learned.setdefault(update.digest, update.iteration)
        probes = {probe.digest: probe for probe in read_facts(log, PolicyProbed)}
    own = config.model_copy(update={"learn": recorded_settings(folder, first).learn})
    kept = [policy for policy in learned if (folder / "weights" / policy).is_dir()]
    if digest:
        kept = [find_digest(digest, kept, f"the student that are kept in {folder}")]
    if not kept:
        raise BadInput(f"{folder} holds no weights of its student; learn.keep and learn.keep_every say which are kept.")
    checkpoints = (Checkpoint(folder / "weights" / policy, policy, learned[policy], probes.get(policy)) for policy in kept)
    return NamedPolicies(folder.name + (f"@{digest}" if digest else ""), own, tuple(checkpoints))
