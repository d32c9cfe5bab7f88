"""One machine with one GPU in ten minutes: sampling, an update and an iteration of a run, beside the estimate of `--dry-run`.

    python -m benchmarks.gpu CONFIG --model FOLDER --model FOLDER --out FOLDER

For each model: tokens a second from a vLLM server; the second of two updates of adapters, with its MFU; the last iteration of a
run with the settings of the file. A part that cannot be measured here, say without a container engine, is reported, and the
others are measured. No GPU has run this yet.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks import section
from benchmarks.adapters import alone
from benchmarks.command import run_main
from benchmarks.rounds import table
from benchmarks.sampling_contest import pocket_prompts
from benchmarks.server_clients import Clients
from benchmarks.serving import vllm_server
from benchmarks.update_cases import GROUP, Setting
from events.cli.app import open_run
from events.facts.errors import GaspError
from events.facts.log import Log
from events.facts.types import IterationFinished, IterationStarted, PolicyUpdated
from events.text.safe_text import clean, one_line
from graph.estimate.budget import Budget
from graph.estimate.memory import GPUS
from graph.estimate.model_dims import ModelDims, dims_of
from graph.estimate.token_estimate import tokens_of_iteration
from graph.settings.configure import configure
from graph.settings.model_location import model_folder
from graph.settings.threads import default_threads

PACKAGES: Final = ("torch", "transformers", "trl", "peft")
UNEVALUATED: Final = ("test=none", "validation=none", "evaluate.first=false", "evaluate.questions=1", "evaluate.attempts=1")
"""Settings of the measured run besides those of the file: one attempt is evaluated, after the last iteration."""


def sampling(model: Path, dtype: str, rows: int, max_tokens: int) -> dict[str, float]:
    """Tokens a second of a vLLM server: `rows` completions of short prompts, all at once; the second time counts."""
    with asyncio.Runner() as runner, vllm_server(runner, model, dtype=dtype, threads=default_threads(model)) as fleet:
        clients = Clients(fleet, pocket_prompts(rows // GROUP), GROUP, rows, model, max_tokens)
        runner.run(clients.ours())
        run = runner.run(clients.ours())
        runner.run(clients.close())
    return {"tokens": sum(run.lengths), "tokens_per_second": sum(run.lengths) / run.seconds}


def update(model: Path, dims: ModelDims, setting: Setting, peak: float) -> dict[str, float]:
    """An update of adapters: completion tokens a second, and its share of the peak, by the passes that the estimate counts."""
    made = alone("ours", "answers", setting)
    # One pass forward, one more because layers are computed again, and one backward, since frozen weights need no gradient.
    flops = 2 * 3 * dims.weights * made["read"]
    return {
        "tokens_per_second": made["tokens"] / made["wall"],
        "mfu": flops / made["wall"] / peak,
        "memory_gb": made["peak"] / 1e9,
    }


def iteration(model: Path, config: Path, overrides: Sequence[str], runs: Path, seconds: float) -> dict[str, float]:
    """Play and learn for so many seconds at most, and read the last whole iteration from the log.

    Raises:
        GaspError: no iteration was finished.
    """
    settings = [f"model={json.dumps(str(model))}", *UNEVALUATED, *overrides]
    options = [option for setting in settings for option in ("--set", setting)]
    command = [sys.executable, "-m", "graph.run", str(config), *options, "--runs", str(runs), "--name", model.name, "--plain"]
    try:
        failed = subprocess.run(command, stdout=sys.stderr, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        failed = 0
    if failed:
        raise GaspError(f"{' '.join(command)} failed; see above.")
    with closing(open_run(str(runs / model.name))) as log:
        return last_iteration(log)


def last_iteration(log: Log) -> dict[str, float]:
    """Seconds of play, of the update and of all, and tokens sampled, of the last iteration that was learned from.

    Raises:
        GaspError: there is none.
    """
    events = list(log.read())
    updates = [event for event in events if isinstance(event.fact, PolicyUpdated)]
    if not updates:
        raise GaspError("The run finished no iteration in its time; set fewer episodes.")
    number = updates[-1].fact.iteration
    of_iteration = [event for event in events if getattr(event.fact, "iteration", None) == number]
    (begin,) = [event for event in of_iteration if isinstance(event.fact, IterationStarted)]
    (end,) = [event for event in of_iteration if isinstance(event.fact, IterationFinished)]
    learned = [event for event in updates if event.fact.iteration == number]
    played = events[begin.position : end.position]
    tokens = sum(event.fact.generation.length for event in played if getattr(event.fact, "generation", None) is not None)
    play_s = (end.time - begin.time).total_seconds()
    return {
        "iteration": number,
        "tokens": tokens,
        "play_s": play_s,
        "play_tokens_per_second": tokens / play_s,
        "update_s": sum(float(event.observed["seconds"]) for event in learned),
        "whole_s": (learned[-1].time - begin.time).total_seconds(),
    }


def estimated(budget: Budget) -> dict[str, float]:
    """The same figures by the arithmetic of `--dry-run`."""
    work = tokens_of_iteration(budget.config)
    play_s, update_s = budget.sampling_s(work), budget.learning_s(work)
    return {
        "tokens": work.tokens,
        "play_s": play_s,
        "play_tokens_per_second": work.tokens / play_s,
        "update_s": update_s,
        "whole_s": play_s + update_s + budget.weight_sync_s,
        "sampling_tokens_per_second": budget.gpu.sampling_mfu * budget.gpu.peak / (2 * budget.dims.weights),
        "mfu": budget.gpu.learning_mfu,
    }


def attempt(what: str, measure: Callable[[], dict[str, float]]) -> dict[str, Any]:
    """A part's figures, or why it was not measured."""
    try:
        with section.step(what):
            return measure()
    except (GaspError, OSError, ImportError) as error:
        sys.stderr.write(f"not measured: {one_line(str(error), 300)}\n")
        return {"error": str(error)}


def report(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table in Markdown: a line a figure, measured and estimated for each model."""
    figures = [
        ("tokens a second, sampling alone", "sampling", "tokens_per_second", "sampling_tokens_per_second", 1),
        ("completion tokens a second, update", "update", "tokens_per_second", "", 1),
        ("MFU of the update, %", "update", "mfu", "mfu", 100),
        ("tokens sampled in an iteration", "iteration", "tokens", "tokens", 1),
        ("tokens a second in play, verdicts included", "iteration", "play_tokens_per_second", "play_tokens_per_second", 1),
        ("play, s", "iteration", "play_s", "play_s", 1),
        ("update, s", "iteration", "update_s", "update_s", 1),
        ("iteration, s", "iteration", "whole_s", "whole_s", 1),
    ]

    def shown(value: float | None, scale: float) -> str:
        return "–" if value is None else f"{value * scale:,.3g}" if value * scale < 1000 else f"{value * scale:,.0f}"

    lines = []
    for name, part, key, key_of_estimate, scale in figures:
        pairs = [(row[part].get(key), row["estimate"].get(key_of_estimate)) for row in rows]
        lines.append([name, *(shown(value, scale) for pair in pairs for value in pair)])
    return table(["figure", *(f"{row['model']}, {what}" for row in rows for what in ("measured", "estimated"))], lines)


def main(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the run.")],
    model: Annotated[list[Path], typer.Option(help="Folder of a model; repeat the option.")],
    out: Annotated[Path, typer.Option(help="Folder for runs and for gpu.json.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    gpu: Annotated[str, typer.Option(help=f"What this machine has: {', '.join(GPUS)}; CPU for a trial.")] = "H200",
    rows: Annotated[int, typer.Option(min=GROUP, help="Completions that the server is asked for at once.")] = 512,
    max_tokens: Annotated[int, typer.Option(min=1, help="Their most tokens.")] = 256,
    groups: Annotated[int, typer.Option(min=1, help=f"Prompts of the update, {GROUP} completions each.")] = 32,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds after which a run is stopped; what it finished counts.")] = 150,
) -> None:
    """Measure, and print a table and JSON."""
    changes, kind = ["play.iterations=2", *(overrides or [])], GPUS[gpu]
    measured = []
    for folder in (model_folder(str(each)) for each in model):
        settings, dims = configure(config, [f"model={json.dumps(str(folder))}", *changes]), dims_of(str(folder))
        device = "cpu" if gpu == "CPU" else "cuda"
        setting = Setting(device=device, groups=groups, model=folder, threads=default_threads(folder))
        parts = {
            "sampling": partial(sampling, folder, settings.serve.dtype, rows, max_tokens),
            "update": partial(update, folder, dims, setting, kind.peak),
            "iteration": partial(iteration, folder, config, changes, out / "runs", seconds),
        }
        figures = {name: attempt(f"{folder.name}: {name}", part) for name, part in parts.items()}
        measured.append({"model": folder.name, **figures, "estimate": estimated(Budget(settings, dims, kind))})
        # After each model, so that a stop loses one at most.
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.json").write_text(json.dumps({"machine": section.machine(PACKAGES), "gpu": gpu, "models": measured}))
    lines = [f"{section.machine(PACKAGES)}; {gpu}.", "", *report(measured), "", (out / "gpu.json").read_text()]
    sys.stdout.write(clean("\n".join(lines)) + "\n")


if __name__ == "__main__":
    run_main(main)
