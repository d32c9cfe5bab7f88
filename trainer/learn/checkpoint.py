"""Weights on disk: `weights/<digest>` in Hugging Face or peft format, with the optimizer's state beside them.

Guarantees: a folder appears under its digest complete and durable, or not at all, and never changes afterwards; weights and
optimizer state are checked against their digests when loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from events.facts.errors import TrainerError
from events.facts.values import Digest
from events.facts.weights import OPTIMIZER_FILE, optimizer_digest, weights_digest
from events.maintenance.atomic_file import fsync_path
from graph.settings.config import LoraSettings
from trainer.learn.adapter import Adapter
from trainer.learn.loss import HIDDEN_PACKAGES, hide_packages

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_UNFINISHED: Final = ".unfinished-"


@dataclass(frozen=True)
class LoadedWeights:
    """Weights in memory."""

    folder: Path
    digest: Digest
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    moments: Mapping[str, Tensor] | None
    """The optimizer's state; None where the folder has none."""
    adapter: Adapter | None = None
    """The policy's adapter in `model`; None where the whole model is the policy's own."""


def load(store: Path, digest: Digest, optimizer: Digest | None = None) -> LoadedWeights:
    """Load weights by digest, as float32, and the optimizer's state beside them if there is one.

    Raises:
        TrainerError: they are missing or damaged, have another digest, or the state's digest is not `optimizer`.
    """
    import torch
    from safetensors import SafetensorError

    with hide_packages(HIDDEN_PACKAGES):
        from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _verified_folder(store, digest, optimizer)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return LoadedWeights(folder, digest, model, tokenizer, _moments(folder))
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainerError(f"The weights in {folder} cannot be loaded ({error}); restore the folder.") from error


def load_adapter(
    base: LoadedWeights, digest: Digest, optimizer: Digest | None, *, policy: str, lora: LoraSettings, seed: int
) -> LoadedWeights:
    """Load weights that are an adapter on `base`, by digest; the digest of the base itself means a fresh adapter.

    Raises:
        TrainerError: as `load`.
    """
    from safetensors import SafetensorError

    adapter = Adapter.attach(base.model, policy, base.digest, lora, seed)
    if digest == base.digest:
        return replace(base, moments=None, adapter=adapter)
    folder = _verified_folder(base.folder.parent, digest, optimizer)
    try:
        adapter.read(folder)
        return replace(base, folder=folder, digest=digest, moments=_moments(folder), adapter=adapter)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainerError(f"The adapter in {folder} cannot be loaded ({error}); restore the folder.") from error


def _verified_folder(store: Path, digest: Digest, optimizer: Digest | None) -> Path:
    folder = store / digest
    if not folder.is_dir():
        raise TrainerError(f"The weights {digest} are not in {store}; restore the folder, or start a new run.")
    actual = weights_digest(folder)
    if actual != digest:
        raise TrainerError(f"The weights in {folder} have the digest {actual}; the folder was changed, restore it.")
    if optimizer is not None and (state := optimizer_digest(folder)) != optimizer:
        now = "is missing" if state is None else f"has the digest {state}"
        raise TrainerError(f"{folder / OPTIMIZER_FILE} {now}, but the log says {optimizer}; restore the file.")
    return folder


def _moments(folder: Path) -> Mapping[str, Tensor] | None:
    from safetensors.torch import load_file

    return load_file(folder / OPTIMIZER_FILE) if (folder / OPTIMIZER_FILE).exists() else None


def save(
    store: Path, parent: Path, state: Mapping[str, Tensor], moments: Mapping[str, Tensor], adapter: Adapter | None = None
) -> Digest:
    """Write weights durably under their digest, with configuration and tokenizer of `parent`; returns the digest.

    `state` and `moments` are tensors by name; an adapter is written in place of `state`. Weights that equal `parent` are not
    written again.

    Raises:
        TrainerError: the disk refuses.
    """
    from safetensors.torch import save_file

    folder = store / f"{_UNFINISHED}{os.getpid()}"
    try:
        folder.mkdir()
        if adapter is None:
            _write_model(folder, parent, state)
        else:
            adapter.write(folder)
        save_file(dict(moments), folder / OPTIMIZER_FILE)
        for file in folder.iterdir():
            # Before the rename: otherwise a power failure could leave a complete name with empty files.
            fsync_path(file)
        fsync_path(folder)
        digest = weights_digest(folder)
        if digest != parent.name or not _is_intact(store / digest):
            _publish(folder, store / digest)
        fsync_path(store)
    except OSError as error:
        raise TrainerError(f"Weights cannot be written to {store} ({error}); make room and resume the run.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return digest


def _write_model(folder: Path, parent: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    for file in parent.iterdir():
        if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json", ".bin")):
            shutil.copyfile(file, folder / file.name)
    save_file(_stored_tensors(state, parent), folder / "model.safetensors", metadata={"format": "pt"})


def _stored_tensors(state: Mapping[str, Tensor], parent: Path) -> dict[str, Tensor]:
    """The tensors of those names that the parent's files hold, so that tied weights stay one tensor.

    Raises:
        TrainerError: the files hold a name that `state` lacks.
    """
    from safetensors import safe_open

    names: set[str] = set()
    for shard in parent.glob("model*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            names.update(file.keys())
    if unknown := sorted(names - state.keys()):
        raise TrainerError(f"The weights in {parent} hold {unknown[0]}, which the model does not have; convert them first.")
    return {name: state[name].contiguous() for name in sorted(names)}


def _is_intact(folder: Path) -> bool:
    return folder.is_dir() and weights_digest(folder) == folder.name


def _publish(folder: Path, target: Path) -> None:
    # After a crash before the append the folder is there already, and a server may have loaded it.
    if _is_intact(target) and optimizer_digest(target) == optimizer_digest(folder):
        return
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def remove_unfinished(store: Path) -> None:
    """Remove unfinished folders of a killed trainer. Only the holder of the run's lock may call it."""
    for folder in store.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)
