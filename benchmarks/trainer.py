"""`make bench-trainer`: measures an update of the trainer and writes its section of `docs/benchmarks.md`.

A contender that makes another update than ours, by the norm of its gradient, stops the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from benchmarks import section
from benchmarks.adapters import adapters, alone
from benchmarks.command import run_main
from benchmarks.rounds import Claim, Rates, claims_table, interleaved, table
from benchmarks.update_cases import CASES, SHAPES, LengthCase, Setting, model_of, recorded_schedule, step_batch_of
from benchmarks.update_contenders import CONTENDERS, Contender
from events.facts.errors import BadInput, TrainerError
from graph.settings.threads import default_threads
from trainer.data.step_batches import StepBatch

PACKAGES = ("torch", "transformers", "trl")
NAMES: Final = {"ours": "ours", "trl": "TRL's GRPOTrainer", "bare": "a bare torch loop"}
LEAST: Final = {("equal", "trl"): 1.0, ("spread", "trl"): 1.5, ("equal", "bare"): 0.85, ("spread", "bare"): 0.85}
SAME: Final = {"cpu": 1e-3, "cuda": 0.05}
"""Gradient norms of one update differ by less, relatively; on a GPU they are computed in bfloat16."""
NOTES = """\
One update on the same completions: gradient of the clipped loss averaged over all tokens (DAPO), clipped, one step of AdamW;
at most {budget} padded tokens a forward pass. All take turns, round by round; shown are medians with the lowest and the
highest round, a ratio is taken within a round. Gradient norms agreed to {agreed:.0e}. Ours includes the replay of the log and
advantages, and reads the prompt of a group once. TRL's GRPOTrainer is given completions and advantages in place of sampling
them, and is not charged for its data loader; it pads all completions to the longest, as it does. The bare loop sorts
completions by length, fills every forward pass, reads each completion with its prompt, and computes no figures. Memory is the
peak above that of a process with loaded weights, over two updates in a process of its own."""


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of measurement.", min=1)] = 5,
    groups: Annotated[int, typer.Option(help="Prompts of the batch, eight completions each.", min=1)] = 8,
    shape: Annotated[str, typer.Option(help=f"pocket, or random weights in the shape of {' or '.join(SHAPES)}.")] = "pocket",
    device: Annotated[str, typer.Option(help="cpu (float32, one thread) or cuda (bfloat16; not yet run on any GPU).")] = "cpu",
    model: Annotated[Path | None, typer.Option(help="A folder with a real model: an update of adapters on it instead.")] = None,
    threads: Annotated[int, typer.Option(help="With --model: CPU threads; 0: the cores.", min=0)] = 0,
    peak: Annotated[float | None, typer.Option(help="TFLOP/s that the device is said to do at best, to give MFU.")] = None,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = section.DOCUMENT,
) -> None:
    """Measure an update of the trainer against TRL's GRPOTrainer and a loop in plain torch. A few minutes."""
    if model is not None:
        adapters(model, threads or default_threads(model), groups, rounds, document)
        return
    if shape not in ("pocket", *SHAPES) or device not in ("cpu", "cuda"):
        raise BadInput(f"there is no shape {shape} on {device}; see --help")
    setting = Setting(shape, device, groups)
    lines = [f"{section.machine(PACKAGES)}; {_what(setting)}."]
    claims, memory, worst = list[Claim](), list[list[str]](), 0.0
    for name, case in CASES.items():
        rates, norms, batch = _measured(case, setting, rounds)
        worst = max(worst, _agreed(norms, setting))
        what = f"completion tokens, {case.what} ({batch.tokens} in {batch.completions})"
        for other in ("trl", "bare"):
            least = LEAST[name, other] if setting == Setting() else None
            claims.append(Claim(what, rates["ours"], NAMES[other], rates[other], least=least))
        # What an update needs above the loaded weights, by a process that does nothing else.
        measured = {who: alone(who, name, setting) for who in CONTENDERS}
        bytes_of = {who: row["peak"] - row["before"] for who, row in measured.items()}
        shares = [f"{bytes_of['ours'] / bytes_of[other]:.2f}" for other in ("trl", "bare")]
        memory.append([case.what, *(f"{value / 2**20:.0f} MiB" for value in bytes_of.values()), *shares])
        if peak is not None:
            lines += ["", _utilization(case, rates, batch, setting, peak)]
    notes = NOTES.format(budget=setting.learn.batch_tokens, agreed=worst)
    lines += ["", notes, "", *claims_table(claims), "", "Memory of an update:", ""]
    lines += table(["completions", *(NAMES[who] for who in CONTENDERS), "ours / TRL", "ours / bare"], memory)
    section.write(document, "trainer", "The trainer", lines)
    section.summary(claims)


def _what(setting: Setting) -> str:
    seconds = "CPU seconds of one thread" if setting.device == "cpu" else "seconds by the clock, bfloat16"
    weights = "the pocket model" if setting.shape == "pocket" else f"random weights in the shape of {setting.shape}"
    return f"{weights} on {setting.device}, {seconds}"


def _measured(case: LengthCase, setting: Setting, rounds: int) -> tuple[dict[str, Rates], dict[str, list[float]], StepBatch]:
    schedule = recorded_schedule(case, setting)
    batch = step_batch_of(schedule)
    norms: dict[str, list[float]] = {name: [] for name in CONTENDERS}

    def rate(name: str, contender: Contender) -> float:
        made = contender.update()
        norms[name].append(made.norm)
        return batch.tokens / made.seconds

    with TemporaryDirectory() as folder:
        contenders = {name: kind(setting, schedule, Path(folder)) for name, kind in CONTENDERS.items()}
        for contender in contenders.values():
            contender.update()
        turns = {name: partial(rate, name, contender) for name, contender in contenders.items()}
        return interleaved(turns, rounds), norms, batch


def _agreed(norms: Mapping[str, list[float]], setting: Setting) -> float:
    """How far gradient norms are apart at most.

    Raises:
        TrainerError: too far to be the same update.
    """
    apart = max(max(row) / min(row) - 1 for row in zip(*norms.values(), strict=True))
    if apart > SAME[setting.device]:
        raise TrainerError(
            f"The gradient norms {norms} are {apart:.1e} apart, so these are not the same updates; compare losses"
        )
    return apart


def _utilization(case: LengthCase, rates: Mapping[str, Rates], batch: StepBatch, setting: Setting, peak: float) -> str:
    """Model FLOPs utilization: six FLOPs a weight and token of text that has to be read, each prompt once."""
    weights = sum(value.numel() for value in model_of(setting)[0].parameters())
    prompts = {(one.stream, one.version): len(one.prompt_ids) for one in batch.rollouts}
    tera = 6 * weights * (batch.tokens + sum(prompts.values())) / batch.tokens / 1e12
    shares = ", ".join(f"{NAMES[who]} {100 * tera * rate.median / peak:.1f} %" for who, rate in rates.items())
    return f"MFU where completions are {case.what}, at {peak:g} TFLOP/s: {shares}."


if __name__ == "__main__":
    run_main(main)
