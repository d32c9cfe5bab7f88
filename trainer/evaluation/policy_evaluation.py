"""Evaluates a policy with the solver, verifier and sandbox of play, and records every attempt.

Guarantees: the stream is named by all that the result depends on, so that repeating an evaluation continues an interrupted one,
and only reads what is complete.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from events.facts.certainty_facts import CalibrationFinished
from events.facts.log import first_fact
from events.facts.streams import policy_evaluation_stream
from events.facts.types import EvaluationFinished
from events.process.activity import Activity
from graph.play.evaluation import evaluation_name
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import EvaluateSettings
from graph.setup.assemble import make_evaluator, make_runner, prepare_sandbox
from graph.setup.folder import run_lock
from graph.setup.model_source import PolicyWeights, open_models
from graph.setup.named_policies import load_checkpoint
from roles.model import Model
from roles.prompt import Prompts
from roles.questions.question_set import QuestionSet
from trainer.evaluation.evaluated_policy import EvaluatedPolicy


async def evaluate(
    evaluated: EvaluatedPolicy, question_list: QuestionSet, settings: EvaluateSettings, seed: int, activity: Activity
) -> tuple[str, EvaluationFinished, CalibrationFinished | None]:
    """Evaluate, continuing an interrupted evaluation; returns its stream, the result, and how sure the policy is if asked.

    Raises:
        GaspError: model or sandbox failed; verified completions are kept.
    """
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
        model = await _open_model(evaluated, stack, activity)
        evaluator = make_evaluator(
            log, config, templates, question_list.rules, model, runner, activity, checkpoint.weights, in_run=False
        )
        result = await evaluator.evaluate_in(stream, name, questions, checkpoint.iteration)
        return stream, result, first_fact(log, stream, CalibrationFinished)


async def _open_model(evaluated: EvaluatedPolicy, stack: AsyncExitStack, activity: Activity) -> Model:
    """A model with the policy's weights, checked if the log has the trainer's probe of them."""
    config, checkpoint = evaluated.config, evaluated.checkpoint
    stored = PolicyWeights(checkpoint.weights, checkpoint.policy)
    if config.serve.urls:
        # The servers get other weights, with which a run in progress must not play.
        stack.enter_context(run_lock(evaluated.folder))
    policy = config.policy_of["student"]
    opened = await stack.enter_async_context(open_models(config, {policy: stored}, evaluated.folder, activity))
    model = opened[policy]
    with activity.task("checking the served weights"):
        await load_checkpoint(model, policy, checkpoint, WeightSyncChecker(exact=config.exact))
    return model
