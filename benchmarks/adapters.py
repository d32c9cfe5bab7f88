"""An update of adapters on a real model, ours and a bare torch loop's in turn, each in a process of its own.

make bench-trainer ARGS='--model FOLDER'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import section
from benchmarks.rounds import Claim, Rates, claims_table, interleaved, table
from benchmarks.update_cases import GROUP, Setting
from events.facts.errors import TrainerError

PACKAGES: Final = ("torch", "transformers", "trl", "peft")
LEAST: Final = 1 / 1.2
"""Ours costs at most 1.2 times what the bare loop does."""
APART: Final = 0.1
"""Gradient norms of one update in bfloat16 differ by less, relatively: passes are cut differently, and round differently."""
NOTES = """\
One update of adapters of rank {rank} on all linear layers of {model}: prompts of 150 to 450 tokens, answers of some 200,
{group} a prompt; bfloat16 autocast over float32 weights, layers and logits computed again for the gradient, passes of at most
{budget} padded tokens, {threads} threads. Processes take turns, round by round, and the second update of each counts, in CPU
seconds of all threads, which other work on the machine changes less than the clock. Gradient norms agreed to {apart:.0e}.
Ours includes the replay of the log, advantages, entropies and figures. The bare loop sorts rows by length, fills every forward
pass, computes logits of {chunk} tokens at a time and no figures. Memory is what is resident at the peak of two updates."""


def alone(contender: str, case: str, setting: Setting) -> dict[str, Any]:
    """What `benchmarks.update_contenders` prints of two updates in a process that does nothing else.

    Raises:
        TrainerError: it failed.
    """
    where = ["--shape", setting.shape, "--device", setting.device, "--groups", str(setting.groups)]
    where += ["--threads", str(setting.threads)]
    where += [] if setting.model is None else ["--model", str(setting.model)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.update_contenders", contender, case, *where],
        env={**os.environ, "OMP_NUM_THREADS": str(setting.threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrainerError(
            f"The update of {contender} could not be measured: {done.stderr.strip()[-500:]}; see benchmarks.update_contenders"
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def adapters(model: Path, threads: int, groups: int, rounds: int, document: Path) -> None:
    """Measure, and write the section.

    Raises:
        TrainerError: the two do not make the same update.
    """
    from benchmarks.update_contenders import CHUNK

    setting = Setting(groups=groups, model=model, threads=threads)
    made: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}

    def rate(contender: str) -> float:
        with section.step(f"an update by {contender}"):
            made[contender].append(alone(contender, "answers", setting))
        return float(made[contender][-1]["tokens"] / made[contender][-1]["seconds"])

    rates = interleaved({contender: partial(rate, contender) for contender in made}, rounds)
    norms = [row["norm"] for rows in made.values() for row in rows]
    if (apart := max(norms) / min(norms) - 1) > APART:
        raise TrainerError(
            f"The gradient norms {norms} are {apart:.1e} apart, so these are not the same updates; compare losses"
        )
    last = made["ours"][-1]
    what = f"completion tokens a CPU second ({last['tokens']} in {last['completions']})"
    claims = [Claim(what, rates["ours"], "a bare torch loop", rates["bare"], least=LEAST)]
    rows = []
    for contender, name in (("ours", "ours"), ("bare", "a bare torch loop")):
        peak = max(row["peak"] for row in made[contender]) / 2**30
        wall = Rates(tuple(row["wall"] for row in made[contender]))
        rows.append(
            [name, f"{peak:.2f} GiB", f"{max(row['before'] for row in made[contender]) / 2**30:.2f} GiB", f"{wall.show()} s"]
        )
    measured = {"model": model.name, "group": GROUP, "threads": threads, "apart": apart, "chunk": CHUNK}
    notes = NOTES.format(rank=setting.learn.lora.rank, budget=setting.learn.batch_tokens, **measured)
    lines = [f"{section.machine(PACKAGES)}.", "", notes, "", *claims_table(claims), ""]
    lines += table(["an update", "memory at the peak", "before it", "by the clock"], rows)
    section.write(document, "adapters", "The trainer on a real model", lines, "make bench-trainer ARGS='--model FOLDER'")
    section.summary(claims)
