"""The goalpost filter: `python -m graph.goalposts SET --out FILE` keeps the questions that plain RL does not solve.

Guarantees: the filter's folder is named by a digest of its settings and inputs, and its log alone decides which questions stay.
So a repeated command goes on where it was interrupted, and once it is done it writes the same files again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from events.cli.app import holds_log, open_run, run_app
from events.cli.output import Printer, print_note, progress
from events.facts.digests import NAME_DIGITS, SHORT
from events.facts.errors import BadInput
from events.facts.log import Log, first_event, run_started
from events.facts.streams import RUN
from events.process import shutdown
from events.process.console import detachable_console
from events.text.phrases import counted
from events.text.safe_text import markup
from graph.goalposts.goalpost_provenance import PROVENANCE_SUFFIX, GoalpostProvenance, PolicyResult
from graph.settings.config import Config
from graph.settings.configure import configure, with_overrides
from roles.questions.named_sets import SOURCES, parse_spec
from roles.questions.pocket_folders import POCKET_FOLDERS

if TYPE_CHECKING:
    from graph.goalposts.filter import GoalpostFilter
    from graph.setup.run_inputs import RunInputs

CHECKPOINTS: Final = 10
"""Checkpoints of the further run that are asked, unless `learn.keep_every` is set [GASP: every 50 of 500 steps]."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class _Job:
    set_spec: str
    base_config: Config
    """The settings as the command line gives them."""
    config: Config
    """The filter's own, which its log begins with."""
    runs: Path
    out: Path
    rest: Path | None
    most: int | None


@app.command()
def main(
    set_spec: Annotated[str, typer.Argument(metavar="SET", help="A question set, as in a run's settings; docs/questions.md.")],
    out: Annotated[Path, typer.Option(help="File to write: the goalposts, a question a line.")],
    rest: Annotated[Path | None, typer.Option(help="File to write as well: the questions that somebody solved.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHO", help="Who else must not solve them: RUN (all its weights that are kept), RUN@DIGEST, or a model."
        ),
    ] = None,
    further: Annotated[
        bool, typer.Option("--further", help="Practise on what is left (recipe rlvr), and ask what that made.")
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings to start from.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, such as model; may be repeated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers a question and policy, all without success.")] = 100,
    temperature: Annotated[float | None, typer.Option(min=0, help="Of sampling; else evaluate.sampling.temperature.")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="Keep so many of them, the first.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs, and gets the filter's.")] = Path("runs"),
) -> None:
    """Keep the questions of a set that no policy solves: first the model of the settings, then those that are named, in order.

    Each is asked only what none before it has solved. The attempts, with their verdicts, are in the log of
    runs/goalposts-DIGEST; beside FILE lies FILE's provenance. Stop it at any moment and repeat the command to go on.
    """
    base_config = configure(config, overrides or [])
    for file, option in ((out, "--out"), (rest, "--rest")):
        if file is not None:
            _writable(file, option, set_spec)
    if rest is not None and rest.absolute() == out.absolute():
        raise BadInput(f"--rest {rest} is the file of --out as well; give two names.")
    how = [f"evaluate.attempts={samples}"]
    how += [] if temperature is None else [f"evaluate.sampling.temperature={temperature}"]
    job = _Job(set_spec, base_config, with_overrides(_practice_settings(base_config, set_spec), how), runs, out, rest, most)
    _filter(job, against or [], further=further)


def _writable(file: Path, option: str, set_spec: str) -> None:
    """Refuse now what could not be written after a day of sampling."""
    if file.suffix != ".jsonl" or file.is_dir() or not os.access(file.parent, os.W_OK):
        raise BadInput(f"{option} {file} cannot be written; give a file name that ends in .jsonl, in a folder that is there.")
    place = None if set_spec in POCKET_FOLDERS else parse_spec(set_spec, "goalposts").place
    if file.exists() and place is not None and place.exists() and file.samefile(place):
        raise BadInput(f"{option} {file} is the question set itself; give another file.")


def _practice_settings(base_config: Config, questions: str) -> Config:
    """Settings of an RLVR run on a question set, with no other evaluation."""
    sets = {"goalposts": questions, "practice": "goalposts", "test": "none", "validation": "none"}
    # Evaluations on its way would ask what the filter asks afterwards.
    plain = ["recipe=rlvr", "evaluate.every=0", "evaluate.every_samples=0"]
    if base_config.learn.keep_best in ("test", "validation"):
        plain.append("learn.keep_best=")
    return with_overrides(base_config, [*plain, *(f"{key}={json.dumps(value)}" for key, value in sets.items())])


def _filter(job: _Job, against: Sequence[str], *, further: bool) -> None:
    from graph.goalposts.filter import GoalpostFilter
    from graph.setup.assemble import record_goalposts
    from graph.setup.folder import run_lock
    from graph.setup.named_policies import Checkpoint, NamedPolicies, find_policies, run_policies
    from graph.setup.run_inputs import read_inputs

    with progress("reading the models and the questions"):
        inputs = read_inputs(job.config)
        base = NamedPolicies(job.config.model, job.config, (Checkpoint(inputs.model, inputs.digest),))
        # Looked up now, so that a missing policy is not found out after a day of sampling.
        queue = [base, *(find_policies(name, job.runs, job.config) for name in against)]
        folder, log = _open(job, inputs)
    with closing(log), run_lock(folder):
        record_goalposts(log, inputs.goalposts)
        goalpost_filter = GoalpostFilter(
            log, folder, job.config, inputs.goalposts.name, list(inputs.goalposts.questions), inputs.rules
        )
        print_note(
            f"{len(goalpost_filter.left)} questions, {len(inputs.goalposts.left_out)} records left out; attempts are kept in"
            f" {folder}"
        )
        if _keeps_errata(job.set_spec):
            print_note(
                "errata, which cannot be solved, are among them and will stay; errata=drop in the set's name leaves them out"
            )

        def on_result(result: PolicyResult) -> None:
            who = f"{result.who}, {result.policy[:SHORT]} after {counted(result.iteration, 'iteration')}"
            print_note(f"{who}: {result.asked} asked, {result.dropped} dropped, {result.asked - result.dropped} left")

        try:
            for policies in queue:
                shutdown.run(goalpost_filter.ask(policies, on_result))
            if further and goalpost_filter.left:
                shutdown.run(goalpost_filter.ask(run_policies(_further(job, folder, goalpost_filter), job.config), on_result))
        except KeyboardInterrupt:
            print_note("stopped; every answer is kept, repeat the command to go on")
            raise
        _write(job, inputs, goalpost_filter)


def _keeps_errata(set_spec: str) -> bool:
    from roles.questions.records import effective_options

    if set_spec in POCKET_FOLDERS:
        return False
    spec = parse_spec(set_spec, "goalposts")
    return bool(SOURCES[spec.name].errata) and effective_options(spec).get("errata") == "keep"


def _open(job: _Job, inputs: RunInputs) -> tuple[Path, Log]:
    """The folder of the filter and its log, created if need be."""
    from graph.setup.folder import create_run

    # Everything that the attempts depend on, and the first policy that is asked; only `_further` plays episodes and learns.
    settings = job.config.model_dump_json(exclude={"play", "learn", "rewards"})
    decides = [settings, str(job.config.exact), inputs.digest, json.dumps(inputs.digests(), sort_keys=True)]
    folder = job.runs / f"goalposts-{hashlib.sha256(chr(0).join(decides).encode()).hexdigest()[:NAME_DIGITS]}"
    return folder, open_run(str(folder)) if holds_log(folder) else create_run(folder, job.config, inputs, learns=False)


def _further(job: _Job, folder: Path, goalpost_filter: GoalpostFilter) -> Path:
    """The folder of a finished RLVR run on the questions that are left; it is played or resumed first, if need be."""
    from roles.questions.question_set import save_questions

    decides = [job.base_config.model_dump_json(), *(question.id for question in goalpost_filter.left)]
    which = hashlib.sha256("".join(decides).encode()).hexdigest()[:6]
    run, practice = job.runs / f"{folder.name}-further-{which}", folder / f"left-{which}.jsonl"
    if not practice.exists():
        save_questions(practice, goalpost_filter.left, goalpost_filter.rules)
    config = _practice_settings(job.base_config, str(practice))
    if not config.learn.keep_every:
        config = with_overrides(config, [f"learn.keep_every={max(1, config.play.iterations // CHECKPOINTS)}"])
    fresh = not holds_log(run)
    if fresh or not _is_finished(run):
        print_note(f"training on the {len(goalpost_filter.left)} questions that are left, in {run}")
        from graph.play_run import play

        play(run, config if fresh else None, None, detachable_console(stderr=True), plain=True)
    return run


def _is_finished(run: Path) -> bool:
    with closing(open_run(str(run))) as log:
        return first_event(log, RUN, "run_finished") is not None


def _write(job: _Job, inputs: RunInputs, goalpost_filter: GoalpostFilter) -> None:
    """The goalposts and where they come from; then the same for people."""
    from roles.questions.question_set import save_questions

    kept, config, last = goalpost_filter.left[: job.most], job.config, goalpost_filter.last
    Printer().show(_table(goalpost_filter.results))
    if not kept or last is None:
        raise BadInput(f"Every question of {job.set_spec} is solved, so that no goalpost is left; filter harder questions.")
    save_questions(job.out, kept, goalpost_filter.rules)
    if job.rest is not None:
        left = {question.id for question in goalpost_filter.left}
        save_questions(job.rest, [q for q in inputs.goalposts.questions if q.id not in left], goalpost_filter.rules)
    origin = GoalpostProvenance(
        set=job.set_spec,
        questions=len(inputs.goalposts.questions),
        digest=inputs.digests()["goalposts"],
        left_out=dict(inputs.goalposts.left_out),
        kept=len(kept),
        unsolved=len(goalpost_filter.left),
        file=hashlib.sha256(job.out.read_bytes()).hexdigest(),
        samples=config.evaluate.attempts,
        sampling=config.evaluate.sampling,
        seed=config.seed,
        prompts=inputs.prompts.digest,
        named=tuple(goalpost_filter.named),
        policies=tuple(goalpost_filter.results),
        commit=run_started(goalpost_filter.log).commit,
        log=goalpost_filter.folder.name,
        position=last.position,
        head=last.head,
    )
    beside = job.out.with_suffix(PROVENANCE_SUFFIX)
    beside.write_text(json.dumps(origin.model_dump(mode="json"), indent=2) + "\n")
    left_out = f", {len(origin.left_out)} records left out" if origin.left_out else ""
    Printer().say(
        f"{origin.kept} of {origin.questions} questions are goalposts{left_out}: [bold]{markup(str(job.out))}[/], with their"
        f" provenance in {markup(str(beside))}"
    )


def _table(results: Sequence[PolicyResult]) -> Table:
    table = Table("who", "policy", "iterations", "asked", "dropped", "left", box=None, pad_edge=False, header_style="bold")
    for result in results:
        left = str(result.asked - result.dropped)
        table.add_row(
            markup(result.who), result.policy[:SHORT], str(result.iteration), str(result.asked), str(result.dropped), left
        )
    return table


if __name__ == "__main__":
    run_app(app)
