"""One update of the same weights on the same rollouts, made in several ways, with its time and memory.

All get the same advantages, optimizer and budget of padded tokens a forward pass, and equal weights at the start; equal
gradient norms show that it was the same update. Ours includes the replay of the log; TRL's time is from its first micro-batch
to its step, without its data loader.

    python -m benchmarks.update_contenders --help      # memory of one of them, as `make bench-trainer` asks for it
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from benchmarks.command import run_main
from benchmarks.update_cases import CASES, GROUP, REAL_MODEL_CASE, Setting, model_of, recorded_schedule, step_batch_of
from trainer.data.replay import Rollout
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn.loss import PolicyLoss, trl_arguments, unused_reward
from trainer.learn.step import BETAS, Adam, take_step

if TYPE_CHECKING:
    from torch import Tensor


CHUNK: Final = 256
"""Tokens whose logits the bare loop computes together, and again, where layers are computed again."""


class MeasuredUpdate(NamedTuple):
    """Measurements of one update."""

    seconds: float
    norm: float
    """Norm of the gradient, before clipping."""


def clock(device: str) -> float:
    """Seconds: of our own threads where these do all, so that it matters less who else is at work; else by the clock."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


class OurTrainer:
    """The trainer: replay, advantages, batches, loss, step."""

    def __init__(self, setting: Setting, schedule: UpdateSchedule, folder: Path) -> None:
        model, tokenizer = model_of(setting)
        self._setting = setting
        self._schedule = schedule
        self._loss = PolicyLoss(model, tokenizer, setting.learn, seed=0, folder=folder, longest=999)
        self._adam = Adam(model, setting.learn, None)

    def update(self) -> MeasuredUpdate:
        """Make one update."""
        began = clock(self._setting.device)
        step = take_step(step_batch_of(self._schedule), self._loss, self._adam, self._setting.learn.batch_tokens)
        return MeasuredUpdate(clock(self._setting.device) - began, step.metrics["grad_norm"])


class BareLoop:
    """A loop in plain torch as one would write it by hand: completions sorted by length, each read with its prompt."""

    def __init__(self, setting: Setting, schedule: UpdateSchedule, folder: Path) -> None:
        import torch

        self._setting = setting
        self._batch = step_batch_of(schedule)
        self._model = model_of(setting)[0].train()
        if setting.learn.gradient_checkpointing:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        self._learned = [value for value in self._model.parameters() if value.requires_grad]
        self._adam = torch.optim.AdamW(self._learned, lr=setting.learn.learning_rate, betas=BETAS, weight_decay=0.0)

    def update(self) -> MeasuredUpdate:
        """Make one update."""
        import torch

        began = clock(self._setting.device)
        for rows in self._batches():
            self._loss(rows).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(self._learned, self._setting.learn.max_grad_norm)
        self._adam.step()
        self._adam.zero_grad()
        return MeasuredUpdate(clock(self._setting.device) - began, float(norm))

    def _batches(self) -> list[list[Rollout]]:
        batches: list[list[Rollout]] = []
        for rollout in sorted(self._batch.rollouts, key=lambda rollout: len(_text(rollout))):
            if not batches or (len(batches[-1]) + 1) * len(_text(rollout)) > self._setting.learn.batch_tokens:
                batches.append([])
            batches[-1].append(rollout)
        return batches

    def _loss(self, rows: Sequence[Rollout]) -> Tensor:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        device, learning = self._model.device, self._setting.learn
        text = pad_sequence([torch.tensor(_text(rollout)) for rollout in rows], batch_first=True).to(device)
        mask = [[0] * (len(rollout.prompt_ids) - 1) + [1] * len(rollout.ids) for rollout in rows]
        chosen = pad_sequence([torch.tensor(row) for row in mask], batch_first=True).bool().to(device)
        old = torch.tensor(list(chain.from_iterable(rollout.logprobs.tolist() for rollout in rows)), device=device)
        advantages = torch.tensor([rollout.advantage for rollout in rows for _ in rollout.ids], device=device)
        with torch.autocast(self._setting.device, torch.bfloat16, enabled=learning.precision == "bfloat16"):
            hidden = self._model.base_model(input_ids=text, use_cache=False).last_hidden_state
            logprobs = self._logprobs(hidden[:, :-1][chosen], text[:, 1:][chosen])
        ratio = (logprobs - old).exp()
        clipped = ratio.clamp(1 - learning.clip, 1 + learning.clip)
        return -torch.min(ratio * advantages, clipped * advantages).sum() / self._batch.tokens

    def _logprobs(self, hidden: Tensor, ids: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy
        from torch.utils.checkpoint import checkpoint

        def scored(hidden: Tensor, ids: Tensor) -> Tensor:
            return -cross_entropy(self._model.get_output_embeddings()(hidden).float(), ids, reduction="none")

        if not self._setting.learn.gradient_checkpointing:
            return scored(hidden, ids)
        parts = zip(hidden.split(CHUNK), ids.split(CHUNK), strict=True)
        return torch.cat([checkpoint(scored, *part, use_reentrant=False) for part in parts])


def _text(rollout: Rollout) -> list[int]:
    return [*rollout.prompt_ids.tolist(), *rollout.ids.tolist()]


class TrlTrainer:
    """TRL's GRPOTrainer, given completions and advantages in place of sampling some; the rest is its own."""

    def __init__(self, setting: Setting, schedule: UpdateSchedule, folder: Path) -> None:
        model, tokenizer = model_of(setting)
        rollouts = step_batch_of(schedule).rollouts
        padded = max(len(rollout.prompt_ids) for rollout in rollouts) + max(len(rollout.ids) for rollout in rollouts)
        fitting = [n for n in range(1, len(rollouts) + 1) if len(rollouts) % n == 0]
        micro = max(n for n in fitting if n == 1 or n * padded <= setting.learn.batch_tokens)
        self._trainer = _grpo_trainer(model, tokenizer, rollouts, setting, folder, micro)

    def update(self) -> MeasuredUpdate:
        """Make one update, timed by TRL's callbacks."""
        self._trainer.train()
        norms = [entry["grad_norm"] for entry in self._trainer.state.log_history if "grad_norm" in entry]
        return MeasuredUpdate(self._trainer.seconds, float(norms[-1]))


def _grpo_trainer(model: Any, tokenizer: Any, rollouts: Sequence[Rollout], setting: Setting, folder: Path, micro: int) -> Any:
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import pad

    class Replayed(GRPOTrainer):  # type: ignore[misc]  # TRL leaves it untyped
        seconds = 0.0

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            # The generation batch is asked for once a micro-batch, and used the first time.
            return list(range(len(rollouts))) * self.args.steps_per_generation

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            def padded(key: str, of: Any = torch.tensor, side: str = "right") -> Any:
                return pad([of(row[key]) for row in inputs], padding_value=0, padding_side=side).to(self.accelerator.device)

            def shown(ids: list[int]) -> Any:
                return torch.ones(len(ids), dtype=torch.int64)

            mask = padded("completion_ids", shown)
            return {
                "prompt_ids": padded("prompt_ids", side="left"),
                "prompt_mask": padded("prompt_ids", shown, side="left"),
                "completion_ids": padded("completion_ids"),
                "completion_mask": mask,
                "old_per_token_logps": padded("logprobs"),
                "advantages": torch.tensor([row["advantage"] for row in inputs], device=mask.device),
                "num_items_in_batch": mask.sum(),
            }

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = clock(setting.device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            trainer.seconds = clock(setting.device) - self.began

    rows = {
        "prompt": ["" for _ in rollouts],
        "prompt_ids": [rollout.prompt_ids.tolist() for rollout in rollouts],
        "completion_ids": [rollout.ids.tolist() for rollout in rollouts],
        "logprobs": [rollout.logprobs.tolist() for rollout in rollouts],
        "advantage": [rollout.advantage for rollout in rollouts],
    }
    arguments = GRPOConfig(**_grpo_settings(rollouts, setting, folder, micro))
    trainer = Replayed(model, unused_reward, arguments, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch())
    return trainer


def _grpo_settings(rollouts: Sequence[Rollout], setting: Setting, folder: Path, micro: int) -> dict[str, Any]:
    """The same update, in TRL's words."""
    return {
        **trl_arguments(folder, seed=42),
        "loss_type": "dapo",
        "beta": 0.0,
        "learning_rate": setting.learn.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "weight_decay": 0.0,
        "max_grad_norm": setting.learn.max_grad_norm,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": len(rollouts) // micro,
        "num_generations": GROUP,
        "max_steps": 1,
        "use_cpu": setting.device == "cpu",
        "bf16": setting.learn.precision == "bfloat16",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "log_level": "error",
    }


Contender = OurTrainer | BareLoop | TrlTrainer
CONTENDERS: Final[Mapping[str, type[Contender]]] = {"ours": OurTrainer, "trl": TrlTrainer, "bare": BareLoop}


def main(
    contender: Annotated[str, typer.Argument(help=" or ".join(CONTENDERS))],
    case: Annotated[str, typer.Argument(help=" or ".join(CASES))],
    shape: Annotated[str, typer.Option(help="As in benchmarks.trainer.")] = "pocket",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    groups: Annotated[int, typer.Option(help="As in benchmarks.trainer.")] = 8,
    model: Annotated[Path | None, typer.Option(help="As in benchmarks.trainer.")] = None,
    threads: Annotated[int, typer.Option(help="As in benchmarks.trainer.")] = 1,
) -> None:
    """Make two updates and print what they took, as JSON; the second one's time counts."""
    setting = Setting(shape, device, groups, model=model, threads=threads)
    schedule = recorded_schedule({**CASES, "answers": REAL_MODEL_CASE}[case], setting)
    with TemporaryDirectory() as folder:
        contestant = CONTENDERS[contender](setting, schedule, Path(folder))
        # The peak so far is that of loading and recording.
        Path("/proc/self/clear_refs").write_text("5")
        before = _bytes(device, "VmRSS", "memory_allocated")
        contestant.update()
        began = time.perf_counter()
        update = contestant.update()
        wall = time.perf_counter() - began
        peak = _bytes(device, "VmHWM", "max_memory_allocated")
    batch = step_batch_of(schedule)
    measured = {"before": before, "peak": peak, "wall": wall, "tokens": batch.tokens, "completions": batch.completions}
    measured["read"] = sum(len(_text(rollout)) for rollout in batch.rollouts)
    sys.stdout.write(json.dumps({**update._asdict(), **measured}) + "\n")


def _bytes(device: str, line: str, method: str) -> int:
    if device == "cpu":
        status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
        return int(status[line].split()[0]) * 1024
    import torch

    return int(getattr(torch.cuda, method)())


if __name__ == "__main__":
    run_main(main)
