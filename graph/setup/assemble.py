"""Puts a run together: sandbox, roles, graph and evaluator, from its settings and inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from events.facts.log import Log, run_started
from events.facts.streams import GOALPOSTS
from events.facts.types import GoalpostAdded
from events.facts.values import Digest, JudgingRules, QuestionId
from events.process.activity import Activity
from events.stores.claims import Claims
from events.text.logging import logger
from graph.play.build import build
from graph.play.context import NodeContext, restore_novelty
from graph.play.episode_sampling import QuestionPools
from graph.play.evaluation import Evaluator, questions_at_once
from graph.play.iterations import Play
from graph.play.scheduler import Scheduler, make_scheduler
from graph.play.served_weights import ServedWeights, last_served
from graph.play.shares import SharePlayer
from graph.play.trainer_process import TrainerProcess
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.bfloat16 import GPU_FILE
from graph.settings.config import Config
from graph.settings.threads import weight_count
from graph.setup.model_source import PolicyWeights
from graph.setup.run_inputs import RunInputs
from roles.generation_record import put_question
from roles.judging.grounding import Grounding
from roles.judging.proposal_validator import ReferenceProgram
from roles.judging.similarity import Novelty
from roles.model import Model
from roles.prompt import Prompts
from roles.questions.pocket_folders import FIRST_POCKET, POCKET_FOLDERS
from roles.questions.question_set import QuestionSet
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Verifier
from sandbox.runner import Limits, Runner


def make_runner(config: Config, run: str) -> Runner:
    """The sandbox that a config describes; its containers are labelled with the run's name."""
    from sandbox.host.docker_runner import DockerRunner

    return DockerRunner(
        sandbox_limits(config),
        workers=config.verify.workers or None,
        run=run,
        runtime=config.verify.runtime,
        notify=logger().info,
    )


async def prepare_sandbox(runner: Runner, activity: Activity) -> None:
    """Connect to the engine and build the image, so that a missing engine is an error before anything is sampled."""
    with activity.task("preparing the sandbox"):
        await asyncio.to_thread(lambda: runner.provenance)


def record_goalposts(log: Log, goalposts: QuestionSet) -> None:
    """Append the goalposts to a log that has none yet."""
    if goalposts.questions and log.version(GOALPOSTS) == 0:
        facts = [GoalpostAdded(question=q.id, blob=put_question(log, q), source=goalposts.name) for q in goalposts.questions]
        log.append(GOALPOSTS, facts, expected=0)


def make_verifier(
    config: Config, runner: Runner, rules: Mapping[QuestionId, JudgingRules], truth: ReferenceProgram | None = None
) -> Verifier:
    """The verifier that a config describes; `rules` are used where `verify.rules` is `auto`."""
    play, verify = config.play, config.verify
    return Verifier(
        runner,
        play.pairs,
        play.public_pairs,
        truth,
        rules="own" if verify.rules == "auto" else verify.rules,
        question_rules=rules if verify.rules == "auto" else {},
        per_test=verify.per_test,
    )


def make_evaluator(
    log: Log,
    config: Config,
    prompts: Prompts,
    rules: Mapping[QuestionId, JudgingRules],
    model: Model,
    runner: Runner,
    activity: Activity,
    weights: Path,
    *,
    in_run: bool,
) -> Evaluator:
    """An evaluator of the student that `model` plays; `weights`: the folder of its weights, or of others of that size."""
    # Servers make their own batches, so no question waits for another.
    on_servers = not config.repeatable
    scheduler = make_scheduler("concurrent" if on_servers else config.play.order, activity)
    gpu = bool(config.serve.devices) or GPU_FILE.exists()
    batch = None if on_servers else questions_at_once(weight_count(weights), config.evaluate, gpu=gpu, in_run=in_run)
    solver, verifier = Solver(scheduler.model(model), prompts, log), make_verifier(config, scheduler.runner(runner), rules)
    return Evaluator(log, solver, verifier, scheduler, config.evaluate, config.seed, batch, repeatable=config.repeatable)


def last_served_weights(folder: Path, config: Config, log: Log) -> dict[str, PolicyWeights]:
    """The weights of each policy, by its name, that were served last; at the start, the run's first."""
    policies = dict(run_started(log).policies) | last_served(log)
    return {name: PolicyWeights(folder / "weights" / policies[role], policies[role]) for role, name in config.policy_of.items()}


def assemble_play(
    folder: Path,
    config: Config,
    log: Log,
    inputs: RunInputs,
    *,
    runner: Runner,
    models: dict[str, Model],
    trainer: TrainerProcess,
    scheduler: Scheduler,
    claims: Claims | None = None,
    fetch: Callable[[Digest], None] | None = None,
) -> Play:
    """The run with all its parts, ready to play.

    With `claims`, it is played in shares. `fetch` brings weights into the folder, where that is not shared.
    """
    context = _node_context(config, log, inputs, runner, scheduler, models)
    shared = config.play.shares > 1
    if not shared:
        restore_novelty(log, context.novelty)
    assert shared == (claims is not None)
    return Play(
        config=config,
        log=log,
        context=context,
        graph=build(config.play, context.recipe.plan),
        scheduler=scheduler,
        evaluator=make_evaluator(
            log,
            config,
            inputs.prompts,
            inputs.rules,
            models[config.policy_of["student"]],
            runner,
            scheduler.activity,
            folder / "weights" / run_started(log).policies["student"],
            in_run=True,
        ),
        weights=ServedWeights(
            log=log,
            store=folder / "weights",
            policy_of=config.policy_of,
            models=models,
            trainer=trainer,
            checker=WeightSyncChecker(exact=config.exact),
            activity=scheduler.activity,
            digests=dict(run_started(log).policies),
            fetch=fetch,
        ),
        pools=QuestionPools(
            goalposts=inputs.goalposts.questions,
            practice=inputs.practice if any(stage.uses_real_questions for stage in context.recipe.plan.stages) else (),
            seeds=inputs.practice if context.recipe.plan.references else (),
            examples=inputs.examples,
            documents=inputs.documents,
        ),
        held_out={"validation": inputs.validation, "test": inputs.test},
        share_player=None if claims is None else SharePlayer(log, claims, scheduler.activity, config.play.patience_s),
    )


def _node_context(
    config: Config, log: Log, inputs: RunInputs, runner: Runner, scheduler: Scheduler, models: Mapping[str, Model]
) -> NodeContext:
    teacher, student = (scheduler.model(models[config.policy_of[role]]) for role in ("teacher", "student"))
    return NodeContext(
        log=log,
        teacher=Teacher(teacher, inputs.prompts, log, config.play.teacher.sampling, config.play.pairs),
        solver=Solver(student, inputs.prompts, log),
        verifier=make_verifier(config, scheduler.runner(runner), inputs.rules, _truth(config.goalposts)),
        novelty=Novelty(inputs.embedding),
        recipe=config.algorithm(),
        play=config.play,
        similarity=config.verify.similarity,
        ties=config.verify.ties,
        documents=config.documents,
        grounded=_grounding(config.documents.source),
    )


def _truth(goalposts: str) -> ReferenceProgram | None:
    if goalposts not in POCKET_FOLDERS:
        return None
    from roles.pocket.world import truth

    return truth


def _grounding(source: str) -> Grounding | None:
    """What decides grounding: the pocket world, for its documents and for the files of others that ship with it."""
    if source not in POCKET_FOLDERS and not Path(source).resolve().is_relative_to(POCKET_FOLDERS[FIRST_POCKET]):
        return None
    from roles.pocket.world import grounded

    return grounded


def sandbox_limits(config: Config) -> Limits:
    """The limits of an untrusted program."""
    verify = config.verify
    return Limits(
        wall_seconds=verify.wall_seconds,
        cpu_seconds=max(1, round(verify.wall_seconds)),
        memory_mb=verify.memory_mb,
        output_kb=verify.output_kb,
    )
