"""Puts a run together: inputs, models, sandbox, roles, graph. What is wrong with the input shows here, before play."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from events.cli.output import print_note
from events.facts.errors import BadInput
from events.facts.log import Log, find_run_started
from events.facts.streams import GOALPOSTS, RUN
from events.facts.types import GoalpostAdded, PolicyServed, RunStarted
from events.facts.values import Digest, JudgingRules, Question, QuestionId
from events.facts.weights import weights_digest
from events.process.activity import Activity
from events.text.logging import logger
from graph.play import scheduler as paces
from graph.play.build import build
from graph.play.context import NodeContext, restore_novelty
from graph.play.evaluation import Evaluator, questions_at_once
from graph.play.iterations import Play
from graph.play.scheduler import Scheduler
from graph.play.trainer_process import TrainerProcess
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from graph.settings.configure import naming_setting
from graph.settings.model_location import model_folder
from graph.settings.seeds import rng
from graph.settings.threads import weight_count
from graph.setup.model_source import PolicyWeights
from roles.generation_record import put_question
from roles.judging.similarity import Embedding, Novelty, embedding
from roles.model import Model
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.questions.passable import PromptWindow, passable
from roles.questions.question_set import QuestionList, QuestionSet, Split
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import ReferenceProgram, Verifier
from sandbox.runner import Limits, Runner


def run_started(log: Log) -> RunStarted:
    """The first event of a run.

    Raises:
        BadInput: the log holds no run.
    """
    if (started := find_run_started(log)) is not None:
        return started
    raise BadInput("The log holds no run: its first event is missing; the run never started, so start a new one.")


@dataclass(frozen=True)
class RunInputs:
    """What a run reads from files, read and checked before anything starts.

    The model is looked for where it is asked for only: a run that goes on has its own.
    """

    spec: str
    """The setting `model`."""
    goalposts: QuestionSet
    practice: tuple[Question, ...]
    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    rules: Mapping[QuestionId, JudgingRules]
    """Of those questions that have rules of their own."""
    prompts: Prompts
    embedding: Embedding

    @cached_property
    def model(self) -> Path:
        """The folder of the weights."""
        return model_folder(self.spec)

    @cached_property
    def digest(self) -> Digest:
        """Theirs."""
        return weights_digest(self.model)

    def digests(self) -> dict[str, str]:
        """Content digests, so that a resume plays with what the run started with."""
        sets = {"goalposts": self.goalposts.questions, "practice": self.practice, "test": self.test}
        # Logs that are older than this setting know no digest of it.
        sets |= {"validation": self.validation} if self.validation else {}
        ids = {name: "".join(question.id for question in questions) for name, questions in sets.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in ids.items()} | {
            "prompts": self.prompts.digest
        }


def inputs(config: Config, weights: Path | None = None) -> RunInputs:
    """The question sets, prompts and embedding that a config names, and where its model is.

    Args:
        config: the settings.
        weights: a folder with the model's tokenizer; the model's own if None.

    Raises:
        BadInput: one cannot be read.
    """

    def found(use: Literal["goalposts", "practice", "test", "validation"], split: Split) -> QuestionSet:
        spec: str = getattr(config, use)
        if spec == "none" and use in ("test", "validation"):
            return QuestionList("none", ())
        with naming_setting(use):
            questions = load_questions(spec, split)
        return passable_questions(config, questions, use, lambda: weights or model_folder(config.model))

    goalposts = found("goalposts", "goalposts")
    practice = goalposts if config.practice == "goalposts" else found("practice", "train")
    test, validation = found("test", "test"), found("validation", "validation")
    return RunInputs(
        spec=config.model,
        goalposts=goalposts,
        practice=_training(config, practice),
        test=test.questions,
        validation=validation.questions,
        rules={**validation.rules, **test.rules, **practice.rules, **goalposts.rules},
        prompts=prompts(config),
        embedding=embedding(config.verify.embedding),
    )


def passable_questions(config: Config, found: QuestionSet, use: str, weights: Callable[[], Path]) -> QuestionSet:
    """What of a question set somebody could pass under a run's settings; the rest is named on standard error.

    Raises:
        BadInput: nobody could pass any of it.
    """
    return passable(
        found, use, config.verify.output_kb, PromptWindow(prompts(config), config.max_prompt_tokens, weights), print_note
    )


def _training(config: Config, questions: QuestionSet) -> tuple[Question, ...]:
    """What of the training questions is played with: all, as many with a program as are seeds, or none."""
    course = config.algorithm().course
    if not course.references:
        return tuple(questions.questions) if course.real_data else ()
    known = [question for question in questions.questions if question.program is not None and question.mode == "function"]
    if not known:
        raise BadInput(
            f"The recipe {config.recipe} shows its teacher programs of training questions, and none of {config.practice!r}"
            " has a function as its program; set practice to questions that have."
        )
    return tuple(rng(config.seed, "seeds").sample(known, min(course.seeds, len(known))))


def prompts(config: Config) -> Prompts:
    """The prompts that a config names.

    Raises:
        BadInput: one cannot be read.
    """
    return Prompts.named(config.prompts)


def sandbox(config: Config, run: str) -> Runner:
    """The sandbox that a config describes; its containers name the run."""
    from sandbox.host.docker_runner import DockerRunner

    return DockerRunner(
        sandbox_limits(config), workers=config.verify.workers or None, run=run, runtime=config.verify.runtime, say=logger().info
    )


def record_goalposts(log: Log, goalposts: QuestionSet) -> None:
    """Add the goalposts to a log that has none yet."""
    if log.version(GOALPOSTS) == 0:
        facts = [GoalpostAdded(question=q.id, blob=put_question(log, q), source=goalposts.name) for q in goalposts.questions]
        log.append(GOALPOSTS, facts, expected=0)


def make_verifier(
    config: Config, runner: Runner, rules: Mapping[QuestionId, JudgingRules], truth: ReferenceProgram | None = None
) -> Verifier:
    """The verifier that a config describes.

    Args:
        config: the settings.
        runner: what runs programs.
        rules: those of the questions' benchmarks, which count where the settings leave it to them.
        truth: what the world knows of its language.
    """
    play, verify = config.play, config.verify
    make = partial(Verifier, runner, play.pairs, play.public_pairs, verify.distinct, truth, per_test=verify.per_test)
    return make(ruled=rules) if verify.rules == "auto" else make(rules=verify.rules)


def examiner(
    log: Log,
    config: Config,
    said: Prompts,
    rules: Mapping[QuestionId, JudgingRules],
    model: Model,
    runner: Runner,
    activity: Activity,
    weights: Path,
    *,
    in_run: bool,
) -> Evaluator:
    """Examines a student.

    Args:
        log: gets the answers.
        config: how it is asked and judged.
        said: the prompts.
        rules: those of the questions' benchmarks, see `make_verifier`.
        model: the student.
        runner: the sandbox.
        activity: told how far an examination is.
        weights: folder of the student's weights, or of others of that size.
        in_run: whether it belongs to a run.
    """
    # Servers make their own batches: there nobody waits for anybody, and what is answered is kept at once.
    served = not config.repeatable
    going = paces.make_scheduler("free" if served else config.play.order, activity)
    gpu = bool(config.serve.devices) or Path("/dev/nvidiactl").exists()
    at_once = None if served else questions_at_once(weight_count(weights), config.evaluate, gpu=gpu, in_run=in_run)
    solver, verifier = Solver(going.model(model), said, log), make_verifier(config, going.runner(runner), rules)
    return Evaluator(log, solver, verifier, going, config.evaluate, config.seed, at_once, repeatable=config.repeatable)


def last_served_weights(folder: Path, config: Config, log: Log) -> dict[str, PolicyWeights]:
    """The weights of each policy that the log says were served last, or that the run starts with."""
    policies = dict(run_started(log).policies)
    for event in log.read(RUN, kinds=("policy_served",)):
        if isinstance(event.fact, PolicyServed):
            policies[event.fact.role] = event.fact.policy
    return {name: PolicyWeights(folder / "weights" / policies[role], policies[role]) for role, name in config.policy_of.items()}


def seat(
    folder: Path,
    config: Config,
    log: Log,
    given: RunInputs,
    *,
    runner: Runner,
    models: dict[str, Model],
    learner: TrainerProcess,
    pace: Scheduler,
) -> Play:
    """Everybody at the table, ready to play."""
    teacher, student = (pace.model(models[config.policy_of[role]]) for role in ("teacher", "student"))
    solver = Solver(student, given.prompts, log)
    verifier = make_verifier(config, pace.runner(runner), given.rules, _truth(config.goalposts))
    table = NodeContext(
        log=log,
        teacher=Teacher(teacher, given.prompts, log, config.play.teacher, config.play.pairs),
        solver=solver,
        verifier=verifier,
        novelty=Novelty(given.embedding),
        recipe=config.algorithm(),
        play=config.play,
        similarity=config.verify.similarity,
    )
    restore_novelty(log, table.novelty)
    return Play(
        folder=folder,
        config=config,
        log=log,
        table=table,
        graph=build(config.play, table.recipe.course),
        pace=pace,
        models=models,
        examiner=examiner(
            log,
            config,
            given.prompts,
            given.rules,
            models[config.policy_of["student"]],
            runner,
            pace.activity,
            folder / "weights" / run_started(log).policies["student"],
            in_run=True,
        ),
        learner=learner,
        goalposts=given.goalposts.questions,
        practice=given.practice if table.recipe.course.real_data else (),
        seeds=given.practice if table.recipe.course.references else (),
        test=given.test,
        validation=given.validation,
        proofs=WeightSyncChecker(exact=config.exact),
        policies=dict(run_started(log).policies),
    )


def _truth(goalposts: str) -> ReferenceProgram | None:
    if goalposts != "pocket":
        return None
    from roles.pocket.world import truth

    return truth


def sandbox_limits(config: Config) -> Limits:
    """What an untrusted program may use."""
    verify = config.verify
    return Limits(
        wall_seconds=verify.wall_seconds,
        cpu_seconds=max(1, round(verify.wall_seconds)),
        memory_mb=verify.memory_mb,
        output_kb=verify.output_kb,
    )
