"""Command line: `python -m trainer.evaluate RUN|MODEL --set NAME` measures pass@k of a policy, with confidence intervals.

Everything is recorded: in the run's own log, or in that of a folder made for the model. A repeated command continues what was
interrupted, and only prints what is complete.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.cli.app import run_app
from events.cli.output import Printer, print_json, print_note, show_activity
from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.process import shutdown
from events.text.validation import first_problem
from graph.settings.config import EvaluateSettings

if TYPE_CHECKING:
    from trainer.evaluation.evaluated_policy import EvaluatedPolicy

app = typer.Typer(add_completion=False)


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
    from trainer.evaluation.evaluated_policy import policy_of_model, policy_of_run
    from trainer.evaluation.evaluated_questions import question_set
    from trainer.evaluation.evaluation_report import result_dict, result_report

    run = find_run(who, runs)
    if run is None and policy:
        raise BadInput(f"--policy is for runs, and there is no run {who!r}; give the name or folder of one.")
    if run is not None and config is not None:
        raise BadInput(f"--config is for models; {run} keeps the settings that it was started with.")
    with ExitStack() as stack:
        activity = stack.enter_context(show_activity())
        with activity.task("reading the model and the questions"):
            evaluated = policy_of_model(who, config, runs) if run is None else policy_of_run(run, policy)
            stack.callback(evaluated.log.close)
            settings = _settings(evaluated, certainty, temperature, attempts, questions)
            chosen_ks = _parse_ks(ks, settings.attempts)
            question_list = question_set(evaluated.config, name, evaluated.checkpoint.weights)
        what = f"{evaluated.checkpoint.policy[:SHORT]} on {question_list.name}"
        print_note(f"Evaluating {what}; everything is recorded in {evaluated.folder}.")
        seed = evaluated.config.seed if seed is None else seed
        # Not before the options are known to be good: it imports all of play.
        from trainer.evaluation.policy_evaluation import evaluate

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


def _settings(
    evaluated: EvaluatedPolicy, certainty: bool, temperature: float | None, attempts: int | None, questions: int | None
) -> EvaluateSettings:
    """The settings of the policy's own evaluations, changed by the options.

    Raises:
        BadInput: an option has no such value, or the student cannot be asked whether it is sure.
    """
    from pydantic import ValidationError

    from graph.settings.refusals import refuse_unworkable

    if certainty:
        temperature, attempts = 0.0 if temperature is None else temperature, 1 if attempts is None else attempts
    base = evaluated.config.evaluate
    changed: dict[str, Any] = {"attempts": attempts, "questions": questions, "certainty": certainty or None}
    changed = {key: value for key, value in changed.items() if value is not None}
    if temperature is not None:
        changed["sampling"] = base.sampling.model_dump() | {"temperature": temperature}
    try:
        settings = EvaluateSettings(**(base.model_dump() | changed))
    except ValidationError as error:
        setting, problem = first_problem(error)
        raise BadInput(f"--{setting.rpartition('.')[2]}: {problem}; choose another value.") from error
    if certainty:
        refuse_unworkable(evaluated.config.model_copy(update={"evaluate": settings}), evaluated.checkpoint.weights, plays=False)
    return settings


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


if __name__ == "__main__":
    run_app(app)
