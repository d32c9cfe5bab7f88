"""Command line: `python -m trainer.evaluate RUN|MODEL --set NAME` measures pass@k of a policy, with confidence intervals.

Guarantees: the same solver, verifier and sandbox as in play. Everything is recorded: in the run's own log, or in that of a
folder made for the model. The stream of an evaluation is named by all that its result depends on, so that a repeated command
continues what was interrupted, and only prints what is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from events.cli.app import holds_log, open_run, run_app
from events.cli.output import Printer, print_json, print_note, show_activity
from events.facts.certainty_facts import CalibrationFinished
from events.facts.digests import NAME_DIGITS, SHORT, find_digest
from events.facts.errors import BadInput
from events.facts.log import Log, first_fact, read_facts, run_started
from events.facts.streams import policy_evaluation_stream
from events.facts.types import EvaluationFinished, PolicyProbed, PolicyUpdated
from events.process import shutdown
from events.process.activity import Activity
from events.pure.estimators import CONFIDENCE, pass_at_k, pass_at_k_interval
from events.text.phrases import number
from events.text.safe_text import markup
from events.text.validation import first_problem
from graph.settings.config import Config, EvaluateSettings

if TYPE_CHECKING:
    from graph.setup.named_policies import Checkpoint
    from roles.model import Model
    from roles.questions.question_set import QuestionSet, Split

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class EvaluatedPolicy:
    """The policy to evaluate, and the log that records it."""

    log: Log
    folder: Path
    config: Config
    checkpoint: Checkpoint


@app.command()
def main(
    who: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run by name or folder, or a model as in docs/models.md.")],
    name: Annotated[
        str, typer.Option("--set", help="`goalposts`, `practice`, `test` or `validation` of the run, or any question set.")
    ] = "test",
    policy: Annotated[str, typer.Option(metavar="DIGEST", help="Weights of the run; the student's newest by default.")] = "",
    ks: Annotated[str, typer.Option("-k", metavar="K,K", help="The k of pass@k; by default what the completions allow.")] = "",
    attempts: Annotated[int | None, typer.Option(help="Completions a question.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling; 0 is greedy.")] = None,
    questions: Annotated[int | None, typer.Option(help="Most questions, the first of the set.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of sampling.")] = None,
    certainty: Annotated[
        bool, typer.Option("--certainty", help="Also ask how sure it is: one greedy answer a question.")
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings for a MODEL; a run has its own.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a policy on a question set: unbiased pass@k, each with a 95 % confidence interval.

    Settings default to those of the run's own evaluations. The completions, their verdicts and the result are appended to the
    run's log; for a MODEL to that of runs/evaluation-DIGEST. Stop it with Ctrl-C and repeat the command to go on.
    """
    from graph.setup.folder import find_run

    run = find_run(who, runs)
    if run is None and policy:
        raise BadInput(f"--policy is for runs, and there is no run {who!r}; give the name or folder of one.")
    if run is not None and config is not None:
        raise BadInput(f"--config is for models; {run} keeps the settings that it was started with.")
    with ExitStack() as stack:
        activity = stack.enter_context(show_activity())
        with activity.task("reading the model and the questions"):
            evaluated = _policy_of_model(who, config, runs) if run is None else _policy_of_run(run, policy)
            stack.callback(evaluated.log.close)
            if certainty:
                temperature, attempts = 0.0 if temperature is None else temperature, 1 if attempts is None else attempts
            settings = _settings(evaluated.config.evaluate, temperature, attempts=attempts, questions=questions)
            if certainty:
                settings = settings.model_copy(update={"certainty": True})
                _check_certainty(evaluated, settings)
            chosen_ks = _parse_ks(ks, settings.attempts)
            question_list = question_set(evaluated.config, name, evaluated.checkpoint.weights)
        what = f"{evaluated.checkpoint.policy[:SHORT]} on {question_list.name}"
        print_note(f"Evaluating {what}; everything is recorded in {evaluated.folder}.")
        seed = evaluated.config.seed if seed is None else seed
        try:
            stream, result, calibration = shutdown.run(evaluate(evaluated, question_list, settings, seed, activity))
        except KeyboardInterrupt:
            print_note("Stopped; verified completions are kept. Repeat the command to go on.")
            raise
    if as_json:
        more = {"calibration": calibration.model_dump(mode="json")} if calibration else {}
        print_json({"folder": str(evaluated.folder), "stream": stream, **result_dict(result, chosen_ks), **more})
    else:
        Printer().show(result_report(result, chosen_ks, f"{evaluated.folder}, stream {stream}", calibration))


def _check_certainty(evaluated: EvaluatedPolicy, settings: EvaluateSettings) -> None:
    """BadInput if the student cannot be asked whether it is sure."""
    from graph.settings.refusals import refuse_unworkable

    refuse_unworkable(evaluated.config.model_copy(update={"evaluate": settings}), evaluated.checkpoint.weights, plays=False)


def _policy_of_run(folder: Path, policy: str) -> EvaluatedPolicy:
    """A policy of a run, its student's newest unless one is named.

    Raises:
        BadInput: the run has no such policy, or its weights are gone.
    """
    from graph.settings.paths import with_absolute_paths
    from graph.setup.folder import recorded_settings
    from graph.setup.named_policies import Checkpoint

    log = open_run(str(folder))
    start = run_started(log)
    config = with_absolute_paths(recorded_settings(folder, start), log)
    learned = {start.policies["student"]: 0, start.policies["teacher"]: 0}
    newest = start.policies["student"]
    for update in read_facts(log, PolicyUpdated):
        learned[update.digest] = update.iteration
        newest = newest if update.policy == "teacher" else update.digest
    digest = find_digest(policy, learned, str(folder)) if policy else newest
    weights = folder / "weights" / digest
    if not weights.is_dir():
        raise BadInput(f"The weights {digest} are not in {weights.parent} any more; learn.keep says how many stay.")
    probe = next((probe for probe in read_facts(log, PolicyProbed) if probe.digest == digest), None)
    return EvaluatedPolicy(log, folder, config, Checkpoint(weights, digest, learned[digest], probe))


def _policy_of_model(spec: str, file: Path | None, runs: Path) -> EvaluatedPolicy:
    """A model, and the log of its evaluations, which is created if need be.

    Raises:
        BadInput: there is no such model, or the settings are wrong.
    """
    from graph.settings.configure import configure
    from graph.setup.folder import create_run
    from graph.setup.named_policies import Checkpoint, refuse_unknown_model
    from graph.setup.run_inputs import read_inputs

    refuse_unknown_model(spec)
    config = configure(file, [f"model={json.dumps(spec)}"])
    run_inputs = read_inputs(config)
    folder = runs / f"evaluation-{run_inputs.digest[:NAME_DIGITS]}"
    log = open_run(str(folder)) if holds_log(folder) else create_run(folder, config, run_inputs, learns=False)
    return EvaluatedPolicy(log, folder, config, Checkpoint(run_inputs.model, run_inputs.digest))


def _settings(base: EvaluateSettings, temperature: float | None, **others: int | None) -> EvaluateSettings:
    from pydantic import ValidationError

    changed: dict[str, Any] = {key: value for key, value in others.items() if value is not None}
    if temperature is not None:
        changed["sampling"] = base.sampling.model_dump() | {"temperature": temperature}
    try:
        return EvaluateSettings(**(base.model_dump() | changed))
    except ValidationError as error:
        setting, problem = first_problem(error)
        raise BadInput(f"--{setting.rpartition('.')[2]}: {problem}; choose another value.") from error


def _parse_ks(text: str, attempts: int) -> list[int]:
    from graph.play.evaluation import REPORTED_KS

    if not text:
        return [k for k in REPORTED_KS if k <= attempts]
    try:
        ks = sorted({int(word) for word in text.split(",")})
    except ValueError as error:
        raise BadInput(f"-k {text!r} is no list of numbers; write it like -k 1,10.") from error
    if not 1 <= ks[0] <= ks[-1] <= attempts:
        raise BadInput(f"-k {text} needs numbers from 1 to {attempts}, the completions a question; raise --attempts.")
    return ks


def question_set(config: Config, name: str, weights: Path) -> QuestionSet:
    """A question set by its name in the settings or any other, without questions that no completion could pass.

    Raises:
        BadInput: there is no such set, or a record is wrong.
    """
    from graph.setup.run_inputs import passable_questions
    from roles.questions.load import load_questions
    from roles.questions.question_set import QuestionList

    goalposts: tuple[str, Split] = (config.goalposts, "goalposts")
    sets: dict[str, tuple[str, Split]] = {
        "goalposts": goalposts,
        "practice": goalposts if config.practice == "goalposts" else (config.practice, "train"),
        "test": (config.test, "test"),
        "validation": (config.validation, "validation"),
    }
    spec, split = sets.get(name, (name, "test"))
    if name in sets and spec == "none":
        raise BadInput(f"The run has no {name} set; name another one with --set.")
    loaded = load_questions(spec, split)
    label = name if name in sets else loaded.name
    questions = QuestionList(label, loaded.questions, loaded.left_out, loaded.rules, loaded.names)
    return passable_questions(config, questions, label, lambda: weights)


async def evaluate(
    evaluated: EvaluatedPolicy, question_list: QuestionSet, settings: EvaluateSettings, seed: int, activity: Activity
) -> tuple[str, EvaluationFinished, CalibrationFinished | None]:
    """Evaluate, continuing an interrupted evaluation; returns its stream, the result, and how sure the policy is if asked.

    Raises:
        GaspError: model or sandbox failed; verified completions are kept.
    """
    from graph.play.evaluation import evaluation_name
    from graph.setup.assemble import make_evaluator, make_runner, prepare_sandbox
    from roles.prompt import Prompts

    log, checkpoint = evaluated.log, evaluated.checkpoint
    config = evaluated.config.model_copy(update={"evaluate": settings, "seed": seed})
    questions = question_list.questions[: settings.questions]
    templates = Prompts.named(config.prompts)
    asked = "".join(templates.hashes("certainty").values()) if settings.certainty else ""
    name = evaluation_name(question_list.name, questions, settings, templates.digest + asked)
    stream = policy_evaluation_stream(name, checkpoint.policy, seed)
    done, calibration = first_fact(log, stream, EvaluationFinished), first_fact(log, stream, CalibrationFinished)
    if done is not None and (calibration or not settings.certainty):
        return stream, done, calibration
    async with AsyncExitStack() as stack:
        runner = make_runner(config, evaluated.folder.name)
        stack.push_async_callback(runner.close)
        await prepare_sandbox(runner, activity)
        model = await _serve(evaluated, stack, activity)
        evaluator = make_evaluator(
            log, config, templates, question_list.rules, model, runner, activity, checkpoint.weights, in_run=False
        )
        result = await evaluator.evaluate_in(stream, name, questions, checkpoint.iteration)
        return stream, result, first_fact(log, stream, CalibrationFinished)


async def _serve(evaluated: EvaluatedPolicy, stack: AsyncExitStack, activity: Activity) -> Model:
    """A model with the policy's weights, checked if the log has the trainer's probe of them."""
    from graph.play.weight_sync import WeightSyncChecker
    from graph.setup.folder import run_lock
    from graph.setup.model_source import PolicyWeights, open_models
    from graph.setup.named_policies import serve_checkpoint

    config, checkpoint = evaluated.config, evaluated.checkpoint
    stored = PolicyWeights(checkpoint.weights, checkpoint.policy)
    if config.serve.urls:
        # The servers get other weights, with which a run in progress must not play.
        stack.enter_context(run_lock(evaluated.folder))
    policy = config.policy_of["student"]
    opened = await stack.enter_async_context(open_models(config, {policy: stored}, evaluated.folder, activity))
    model = opened[policy]
    with activity.task("checking the served weights"):
        await serve_checkpoint(model, policy, checkpoint, WeightSyncChecker(exact=config.exact))
    return model


def result_dict(result: EvaluationFinished, ks: Sequence[int]) -> dict[str, Any]:
    """The result as JSON data, with an interval for each pass@k."""
    counts, attempts = list(result.successes.values()), result.attempts
    rows = {k: {"value": pass_at_k(attempts, counts, k), **pass_at_k_interval(attempts, counts, k)._asdict()} for k in ks}
    return {**result.model_dump(mode="json"), "confidence": CONFIDENCE, "pass_at": rows}


def result_report(
    result: EvaluationFinished, ks: Sequence[int], where: str, calibration: CalibrationFinished | None = None
) -> RenderableType:
    """The result as a table."""
    table = Table("", "", f"{CONFIDENCE:.0%} interval", box=None, pad_edge=False, header_style="bold")
    for k, row in result_dict(result, ks)["pass_at"].items():
        table.add_row(f"pass@{k}", f"{row['value']:.3f}", f"{row['low']:.3f} – {row['high']:.3f}")
    solved = sum(map(bool, result.successes.values()))
    head = (
        f"[bold]{markup(result.name)}[/]: policy {result.policy[:SHORT]} after {result.iteration} iterations; {result.attempts}"
        f" completions to each of {len(result.successes)} questions at temperature {result.sampling.temperature:g}; {solved}"
        " questions solved"
    )
    parts = [] if calibration is None else list(_certainty_lines(calibration))
    return Group(head, table, *parts, f"[dim]{markup(where)}[/]")


def _certainty_lines(fact: CalibrationFinished) -> Iterator[str]:
    yield (
        f"average precision {number(fact.ap_certainty, 3)} by confidence and certainty, {number(fact.ap_confidence, 3)} by"
        f" confidence alone; calibration error {fact.ece:.3f}"
    )
    yield (
        f"accuracy {fact.accuracy:.3f} of all answers, {number(fact.accuracy_answered, 3)} of the {fact.answered} of"
        f" {fact.answers} that it is sure of; {fact.refused} refused"
    )


if __name__ == "__main__":
    run_app(app)
