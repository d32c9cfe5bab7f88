"""Command line: `python -m trainer.evaluate RUN|MODEL --set NAME` measures pass@k of a policy, with confidence intervals.

Law: a policy is examined as in play, by the same solver, verifier and sandbox, and all of it is in a log: a run's own, be it
going on or over, or that of a folder made for a model. An examination is named by all that its result depends on, so that a
repeated command goes on where it was broken off, and only shows what is done. It learns nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from events.cli.app import holds_log, open_run, run_app
from events.cli.output import Printer, print_json, print_note, show_activity
from events.facts.digests import NAME_DIGITS, SHORT, find_digest
from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.streams import policy_evaluation_stream
from events.facts.types import EvaluationFinished, PolicyProbed, PolicyUpdated
from events.facts.values import Digest
from events.process import shutdown
from events.process.activity import Activity
from events.pure.estimators import CONFIDENCE, pass_at_k, pass_at_k_interval
from events.text.safe_text import markup
from graph.settings.config import Config, EvaluateSettings

if TYPE_CHECKING:
    from roles.model import Model
    from roles.questions.question_set import QuestionSet

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class EvaluatedPolicy:
    """Who is examined, and where it is written down."""

    log: Log
    folder: Path
    config: Config
    weights: Path
    policy: Digest
    iteration: int
    """Iterations that it has learned from."""


@app.command()
def main(
    who: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run by name or folder; `pocket`; a folder with a model.")],
    name: Annotated[
        str, typer.Option("--set", help="`goalposts`, `practice`, `test` or `validation` of the run, or any question set.")
    ] = "test",
    policy: Annotated[str, typer.Option(metavar="DIGEST", help="Weights of the run; the student's newest by default.")] = "",
    ks: Annotated[str, typer.Option("-k", metavar="K,K", help="The k of pass@k; by default what the answers allow.")] = "",
    attempts: Annotated[int | None, typer.Option(help="Answers a question.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling; 0 is greedy.")] = None,
    questions: Annotated[int | None, typer.Option(help="Most questions, the first of the set.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of sampling.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings for a MODEL; a run has its own.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a policy on a question set: unbiased pass@k, each with a 95 % confidence interval.

    Everything that is left open is as in the run's own examinations. The answers, their verdicts and the result are appended to
    the run's log; for a MODEL to that of runs/evaluation-DIGEST. Stop it with Ctrl-C and repeat the command to go on.
    """
    run = next((folder for folder in (Path(who), runs / who) if holds_log(folder)), None)
    if run is None and policy:
        raise BadInput(f"--policy is for runs, and there is no run {who!r}; give the name or folder of one.")
    if run is not None and config is not None:
        raise BadInput(f"--config is for models; {run} keeps the settings that it was started with.")
    with ExitStack() as house:
        activity = house.enter_context(show_activity())
        with activity.task("reading the model and the questions"):
            examinee = _policy_of_model(who, config, runs) if run is None else _policy_of_run(run, policy)
            house.callback(examinee.log.close)
            settings = _settings(examinee.config.evaluate, temperature, attempts=attempts, questions=questions)
            wanted = _parse_ks(ks, settings.attempts)
            asked = question_set(examinee.config, name, examinee.weights)
        print_note(f"examining {examinee.policy[:SHORT]} on {asked.name}; everything is kept in {examinee.folder}")
        sampled = examinee.config.seed if seed is None else seed
        try:
            stream, found = shutdown.run(evaluate(examinee, asked, settings, sampled, activity))
        except KeyboardInterrupt:
            print_note("Stopped; what was verified is kept. Repeat the command to go on.")
            raise
    if as_json:
        print_json({"folder": str(examinee.folder), "stream": stream, **result_dict(found, wanted)})
    else:
        Printer().show(result_report(found, wanted, f"{examinee.folder}, stream {stream}"))


def _policy_of_run(folder: Path, policy: str) -> EvaluatedPolicy:
    """A policy of a run, its student's newest unless one is named.

    Raises:
        BadInput: the run has no such policy, or its weights are gone.
    """
    from graph.settings.paths import with_absolute_paths
    from graph.setup.assemble import run_started
    from graph.setup.folder import recorded_settings

    log = open_run(str(folder))
    first = run_started(log)
    config = with_absolute_paths(recorded_settings(folder, first), log)
    learned = {first.policies["student"]: 0, first.policies["teacher"]: 0}
    newest = first.policies["student"]
    for event in log.read(kinds=("policy_updated",)):
        if isinstance(event.fact, PolicyUpdated):
            learned[event.fact.digest] = event.fact.iteration
            newest = newest if event.fact.policy == "teacher" else event.fact.digest
    digest = find_digest(policy, learned, str(folder)) if policy else newest
    weights = folder / "weights" / digest
    if not weights.is_dir():
        raise BadInput(f"The weights {digest} are not in {weights.parent} any more; learn.keep says how many stay.")
    return EvaluatedPolicy(log, folder, config, weights, digest, learned[digest])


def _policy_of_model(spec: str, file: Path | None, runs: Path) -> EvaluatedPolicy:
    """A model, and the log of its examinations, made if need be.

    Raises:
        BadInput: there is no such model, or the settings are wrong.
    """
    from graph.settings.configure import configure
    from graph.setup.assemble import read_inputs
    from graph.setup.folder import create_run

    if spec != "pocket" and "/" not in spec and not Path(spec).is_dir():
        raise BadInput(
            f"There is neither a run nor a model {spec!r}; give the name or folder of a run, `pocket`, a folder, or a name of"
            " the hub such as Qwen/Qwen2.5-Coder-7B."
        )
    config = configure(file, [f"model={json.dumps(spec)}"])
    given = read_inputs(config)
    folder = runs / f"evaluation-{given.digest[:NAME_DIGITS]}"
    log = open_run(str(folder)) if holds_log(folder) else create_run(folder, config, given, learns=False)
    return EvaluatedPolicy(log, folder, config, given.model, given.digest, 0)


def _settings(base: EvaluateSettings, temperature: float | None, **others: int | None) -> EvaluateSettings:
    from pydantic import ValidationError

    changed: dict[str, Any] = {key: value for key, value in others.items() if value is not None}
    if temperature is not None:
        changed["sampling"] = base.sampling.model_dump() | {"temperature": temperature}
    try:
        return EvaluateSettings(**(base.model_dump() | changed))
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadInput(f"--{problem['loc'][-1]} {problem['input']}: {problem['msg']}; choose another.") from error


def _parse_ks(text: str, attempts: int) -> list[int]:
    from graph.play.evaluation import REPORTED_KS

    if not text:
        return [k for k in REPORTED_KS if k <= attempts]
    try:
        ks = sorted({int(word) for word in text.split(",")})
    except ValueError as error:
        raise BadInput(f"-k {text!r} is no list of numbers; write it like -k 1,10.") from error
    if not 1 <= ks[0] <= ks[-1] <= attempts:
        raise BadInput(f"-k {text} needs numbers from 1 to {attempts}, the answers a question; raise --attempts.")
    return ks


def question_set(config: Config, name: str, weights: Path) -> QuestionSet:
    """The question set that a config or the world calls so, without what nobody could pass.

    Raises:
        BadInput: there is none, or a record is wrong.
    """
    from graph.setup.assemble import passable_questions
    from roles.questions.load import load_questions
    from roles.questions.question_set import QuestionList

    match name:
        case "goalposts":
            found = load_questions(config.goalposts, "goalposts")
        case "practice":
            found = (
                load_questions(config.practice, "train")
                if config.practice != "goalposts"
                else load_questions(config.goalposts, "goalposts")
            )
        case "test" | "validation":
            spec = config.test if name == "test" else config.validation
            if spec == "none":
                raise BadInput(f"The run has no {name} set; name another one with --set.")
            found = load_questions(spec, name)
        case _:
            found = load_questions(name, "test")
            name = found.name
    return passable_questions(
        config, QuestionList(name, found.questions, found.left_out, found.rules, found.names), name, lambda: weights
    )


async def evaluate(
    examinee: EvaluatedPolicy, asked: QuestionSet, settings: EvaluateSettings, seed: int, activity: Activity
) -> tuple[str, EvaluationFinished]:
    """Examine, or go on with it; the stream that it is in, and what was found.

    Raises:
        GaspError: model or sandbox failed; what is done is kept.
    """
    from graph.play.evaluation import evaluation_name
    from graph.setup.assemble import load_prompts, make_evaluator, make_runner

    log, config = examinee.log, examinee.config.model_copy(update={"evaluate": settings, "seed": seed})
    questions = asked.questions[: settings.questions]
    said = load_prompts(config)
    name = evaluation_name(asked.name, questions, settings, said.digest)
    stream = policy_evaluation_stream(name, examinee.policy, seed)
    done = next((event.fact for event in log.read(stream, kinds=("evaluation_finished",))), None)
    if isinstance(done, EvaluationFinished):
        return stream, done
    async with AsyncExitStack() as house:
        runner = make_runner(config, examinee.folder.name)
        house.push_async_callback(runner.close)
        # A missing engine is said before anything is sampled.
        with activity.task("preparing the sandbox"):
            await asyncio.to_thread(lambda: runner.provenance)
        model = await _serve(examinee, house, activity)
        examines = make_evaluator(log, config, said, asked.rules, model, runner, activity, examinee.weights, in_run=False)
        return stream, await examines.evaluate_in(stream, name, questions, examinee.iteration)


async def _serve(examinee: EvaluatedPolicy, house: AsyncExitStack, activity: Activity) -> Model:
    """A model with the policy's weights, proved where the log has the trainer's probe of them."""
    from graph.play.weight_sync import WeightSyncChecker
    from graph.setup.folder import run_lock
    from graph.setup.model_source import PolicyWeights, open_models
    from graph.setup.named_policies import Checkpoint, serve_checkpoint

    config, stored = examinee.config, PolicyWeights(examinee.weights, examinee.policy)
    if config.serve.urls:
        # Else a run that goes on would be sampled by other weights from now on.
        house.enter_context(run_lock(examinee.folder))
    policy = config.policy_of["student"]
    made = await house.enter_async_context(open_models(config, {policy: stored}, examinee.folder, activity))
    model = made[policy]
    told = (event.fact for event in examinee.log.read(kinds=("policy_probed",)))
    probe = next((fact for fact in told if isinstance(fact, PolicyProbed) and fact.digest == examinee.policy), None)
    checkpoint = Checkpoint(examinee.weights, examinee.policy, examinee.iteration, probe)
    with activity.task("checking the served weights"):
        await serve_checkpoint(model, policy, checkpoint, WeightSyncChecker(exact=config.exact))
    return model


def result_dict(found: EvaluationFinished, ks: Sequence[int]) -> dict[str, Any]:
    """What was found, as plain data."""
    counts = list(found.successes.values())
    rows = {
        k: {
            "value": pass_at_k(found.attempts, counts, k),
            **pass_at_k_interval(found.attempts, counts, k)._asdict(),
        }
        for k in ks
    }
    return {**found.model_dump(mode="json"), "confidence": CONFIDENCE, "pass_at": rows}


def result_report(found: EvaluationFinished, ks: Sequence[int], where: str) -> RenderableType:
    """What was found, for people."""
    table = Table("", "", f"{CONFIDENCE:.0%} interval", box=None, pad_edge=False, header_style="bold")
    for k, row in result_dict(found, ks)["pass_at"].items():
        table.add_row(f"pass@{k}", f"{row['value']:.3f}", f"{row['low']:.3f} – {row['high']:.3f}")
    solved = sum(map(bool, found.successes.values()))
    head = (
        f"[bold]{markup(found.name)}[/]: policy {found.policy[:SHORT]} after {found.iteration} iterations; {found.attempts}"
        f" answers to each of {len(found.successes)} questions at temperature {found.sampling.temperature:g}, {solved} of them"
        " solved"
    )
    return Group(head, table, f"[dim]{markup(where)}[/]")


if __name__ == "__main__":
    run_app(app)
