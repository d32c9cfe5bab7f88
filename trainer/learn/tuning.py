"""Warm starts by TRL's SFTTrainer, on completions that passed, and DPOTrainer, on pairs of passed and failed.

Guarantees: TRL gets the sampled token ids, nothing is tokenised again. The result is a folder in Hugging Face format, complete
or not there, for the setting `model`; `made_of.json` in it names the logs by position and head digest.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.facts.errors import BadInput, TrainerError
from events.facts.log import ProgressCallback, ignore_progress
from events.facts.values import Digest, SourceLog
from events.facts.weights import weights_digest
from graph.settings.threads import default_threads
from trainer.data.preferences import PassedCompletion, PreferencePair
from trainer.learn.loss import keep_libraries_offline, trl_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MADE_OF = "made_of.json"
"""The file beside the weights that names the logs and settings they were made with."""
_NOT_COPIED = (".safetensors", ".index.json", ".bin", ".md")
"""Endings of the parent's files that do not describe the new weights."""


@dataclass(frozen=True)
class TuningSettings:
    """Settings of a warm start."""

    learning_rate: float
    epochs: int = 1
    batch: int = 8
    """Examples an optimizer step."""
    seed: int = 0
    beta: float = 0.1
    """DPO's weight of the divergence from the first weights."""


def sft(
    model: Path,
    completions: Sequence[PassedCompletion],
    sources: Sequence[SourceLog],
    tuning: TuningSettings,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> Digest:
    """Tune a model on completions; returns the digest of the weights in `out`. `say` gets optimizer steps done and in total.

    Raises:
        BadInput: there are no completions.
        TrainerError: the disk refuses.
    """
    from trl import SFTConfig, SFTTrainer

    # TRL computes no loss on labels of -100.
    rows = [
        {"input_ids": [*example.prompt, *example.ids], "labels": [*(-100 for _ in example.prompt), *example.ids]}
        for example in completions
    ]
    arguments = SFTConfig(**_arguments(tuning, out), max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    return _tune("sft", SFTTrainer, arguments, rows, model, sources, tuning, out, on_progress)


def dpo(
    model: Path,
    pairs: Sequence[PreferencePair],
    sources: Sequence[SourceLog],
    tuning: TuningSettings,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> Digest:
    """Tune a model on preference pairs; otherwise as `sft`."""
    from trl import DPOConfig, DPOTrainer

    class TokenDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL is untyped
        """Takes token ids, where DPOTrainer tokenises texts."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    rows = [
        {"prompt_ids": list(pair.prompt), "chosen_ids": list(pair.chosen), "rejected_ids": list(pair.rejected)}
        for pair in pairs
    ]
    arguments = DPOConfig(**_arguments(tuning, out), max_length=None, beta=tuning.beta)
    return _tune("dpo", TokenDPOTrainer, arguments, rows, model, sources, tuning, out, on_progress, ref_model=_load(model)[0])


def _tune(
    method: str,
    trainer_class: Any,
    arguments: Any,
    rows: list[dict[str, list[int]]],
    model: Path,
    sources: Sequence[SourceLog],
    tuning: TuningSettings,
    out: Path,
    on_progress: ProgressCallback,
    **models: Any,
) -> Digest:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback

    class ReportSteps(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        """Reports each step."""

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            on_progress(state.global_step, state.max_steps)

    if not rows:
        raise BadInput("The logs hold nothing to tune on: no attempt passed, or none failed beside it; play longer.")
    weights, tokenizer = _load(model)
    dataset = Dataset.from_list(rows)
    trainer = trainer_class(weights, args=arguments, train_dataset=dataset, processing_class=tokenizer, **models)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ReportSteps)
    trainer.train()
    return _save(trainer.model, model, out, {"method": method, **asdict(tuning), "examples": len(rows)}, sources)


def _load(model: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True)
        return weights, AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInput(f"The model in {model} cannot be loaded ({error}); check the folder.") from error


def _arguments(tuning: TuningSettings, out: Path) -> dict[str, Any]:
    return {
        **trl_arguments(_unfinished(out), tuning.seed),
        "learning_rate": tuning.learning_rate,
        "num_train_epochs": tuning.epochs,
        "per_device_train_batch_size": tuning.batch,
    }


def _save(model: Any, parent: Path, out: Path, how: dict[str, Any], sources: Sequence[SourceLog]) -> Digest:
    folder = _unfinished(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        # The tokenizer's files are copied byte by byte, so that token ids keep their meaning.
        for file in parent.iterdir():
            if file.is_file() and not file.name.endswith(_NOT_COPIED) and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
        made = {**how, "parent": weights_digest(parent), "logs": [source.model_dump() for source in sources]}
        (folder / MADE_OF).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        os.sync()
        folder.rename(out)
    except OSError as error:
        raise TrainerError(f"The model cannot be written to {out} ({error}); make room, or name another folder.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return weights_digest(out)


def _unfinished(out: Path) -> Path:
    return out.absolute().with_name(f".new-{out.name}-{os.getpid()}")


def prepare_process(model: Path, out: Path) -> None:
    """Prepare the process before torch is imported: quiet libraries, the threads that suit the model, a writable `out`.

    Raises:
        BadInput: `out` exists, or cannot be written.
    """
    if out.exists():
        raise BadInput(f"{out} is there already; name another folder by --out.")
    try:
        _unfinished(out).mkdir(parents=True)
        _unfinished(out).rmdir()
    except OSError as error:
        raise BadInput(f"The model cannot be written to {out} ({error.strerror}); name another folder by --out.") from error
    keep_libraries_offline()
    # bitsandbytes logs an error without a GPU, and TRL imports it where installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import torch

    torch.set_num_threads(default_threads(model))
