"""Weights on disk: `weights/<digest>` in Hugging Face format, with the optimizer's moments beside them.

Law: a folder appears under its digest complete and durable, or not at all; it never changes afterwards. Only weights
that this run made are ever removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from events.errors import TrainerError
from events.values import Digest
from events.weights import weights_digest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPTIMIZER: Final = "optimizer.safetensors"
_UNFINISHED: Final = ".unfinished-"


@dataclass(frozen=True)
class Weights:
    """A policy, loaded to learn."""

    folder: Path
    digest: Digest
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    moments: Mapping[str, Tensor] | None
    """The optimizer's, None where the weights come without."""


def load(store: Path, digest: Digest) -> Weights:
    """Weights by digest, as float32.

    Raises:
        TrainerError: they are missing, damaged, or not what they are called.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = store / digest
    if not folder.is_dir():
        raise TrainerError(f"The weights {digest} are not in {store}; restore the folder, or start a new run")
    found = weights_digest(folder)
    if found != digest:
        raise TrainerError(f"The weights in {folder} have the digest {found}; the folder was changed, restore it")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        moments = load_file(folder / OPTIMIZER) if (folder / OPTIMIZER).exists() else None
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainerError(f"The weights in {folder} cannot be loaded ({error}); restore the folder") from error
    return Weights(folder, digest, model, tokenizer, moments)


def save(store: Path, parent: Path, model: PreTrainedModel, moments: Mapping[str, Tensor]) -> Digest:
    """Write weights durably under their digest; configuration and tokenizer are copied from `parent`.

    Raises:
        TrainerError: the disk refuses.
    """
    from safetensors.torch import save_file

    folder = store / f"{_UNFINISHED}{os.getpid()}"
    try:
        folder.mkdir()
        for file in parent.iterdir():
            if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json", ".bin")):
                shutil.copyfile(file, folder / file.name)
        save_file(_state(model, parent), folder / "model.safetensors", metadata={"format": "pt"})
        save_file(dict(moments), folder / OPTIMIZER)
        for file in folder.iterdir():
            _sync(file)
        _sync(folder)
        digest = weights_digest(folder)
        _move(folder, store / digest)
        _sync(store)
    except OSError as error:
        raise TrainerError(f"Weights cannot be written to {store} ({error}); make room and resume the run") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return digest


def _state(model: PreTrainedModel, parent: Path) -> dict[str, Tensor]:
    """The tensors that the parent's files hold, so that tied weights stay one tensor."""
    from safetensors import safe_open

    names: set[str] = set()
    for shard in parent.glob("model*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            names.update(file.keys())
    state = model.state_dict()
    if unknown := sorted(names - state.keys()):
        raise TrainerError(f"The weights in {parent} hold {unknown[0]}, which the model does not know; convert them first")
    return {name: state[name].detach().cpu().contiguous() for name in sorted(names)}


def _move(folder: Path, target: Path) -> None:
    if target.is_dir() and weights_digest(target) == target.name:
        return
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clean(store: Path) -> None:
    """Remove what a killed trainer left half-written. Only the holder of the run's lock may call it."""
    for folder in store.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def prune(store: Path, candidates: Collection[Digest], needed: Collection[Digest]) -> None:
    """Remove those candidates that nobody needs."""
    for digest in set(candidates) - set(needed):
        shutil.rmtree(store / digest, ignore_errors=True)
