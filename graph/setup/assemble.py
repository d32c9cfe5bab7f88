"""Puts a run together: inputs, sandbox, roles and graph. Wrong input is reported here, before play."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from events.cli.output import print_note
from events.facts.errors import BadInput
from events.facts.log import Log, find_run_started
from events.facts.streams import GOALPOSTS, RUN
from events.facts.types import GoalpostAdded, PolicyServed, RunStarted
from events.facts.values import Digest, GgufFile, JudgingRules, Question, QuestionId
from events.facts.weights import weights_digest
from events.process.activity import Activity
from events.stores.claims import Claims
from events.text.logging import logger
from graph.play.build import build
from graph.play.context import NodeContext, restore_novelty
from graph.play.evaluation import Evaluator, questions_at_once
from graph.play.iterations import Play
from graph.play.scheduler import Scheduler, make_scheduler
from graph.play.shares import SharePlayer
from graph.play.trainer_process import TrainerProcess
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from graph.settings.configure import naming_setting
from graph.settings.gguf_folder import gguf_source, is_gguf
from graph.settings.model_location import model_folder
from graph.settings.refusals import refuse_unworkable
from graph.settings.seeds import rng
from graph.settings.threads import weight_count
from graph.setup.model_source import PolicyWeights
from roles.generation_record import put_question
from roles.judging.grounding import Grounding
from roles.judging.similarity import Embedding, Novelty, embedding
from roles.model import Model
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.questions.passable import PromptWindow, passable
from roles.questions.pocket_folders import FIRST_POCKET, POCKET_FOLDERS
from roles.questions.question_set import QuestionList, QuestionSet, Split
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import ReferenceProgram, Verifier
from sandbox.runner import Limits, Runner


def run_started(log: Log) -> RunStarted:
    """The first event of a run; BadInput if the log holds no run."""
    if (started := find_run_started(log)) is not None:
        return started
    raise BadInput("The log holds no run: its first event is missing; the run never started, so start a new one.")


@dataclass(frozen=True)
class RunInputs:
    """Everything that a run reads from files; read and checked before anything starts.

    `model` is found only on access: a resumed run has weights of its own.
    """

    spec: str
    goalposts: QuestionSet
    practice: tuple[Question, ...]
    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    rules: Mapping[QuestionId, JudgingRules]
    """Judging rules of those questions that have rules of their own."""
    prompts: Prompts
    embedding: Embedding
    examples: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    """Training questions on each topic that the teacher writes about."""
    documents: tuple[Question, ...] = ()
    """What the teacher writes about."""
    asks_certainty: bool = False
    """Whether the student is asked if it is sure."""

    @cached_property
    def model(self) -> Path:
        """The folder of the first weights."""
        return model_folder(self.spec)

    @cached_property
    def digest(self) -> Digest:
        """The digest of the first weights."""
        return weights_digest(self.model)

    @property
    def dequantised(self) -> GgufFile | None:
        """The GGUF file that the first weights come from, if they do."""
        return gguf_source(self.spec, self.model)

    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of each input, by name, so that a resumed run is sure to have the same."""
        sets = {"goalposts": self.goalposts.questions, "practice": self.practice, "test": self.test}
        # Logs from before this setting have no digest of it.
        sets |= {"validation": self.validation} if self.validation else {}
        ids = {name: "".join(question.id for question in questions) for name, questions in sets.items()}
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in ids.items()}
        digests["prompts"] = self.prompts.digest
        if self.examples:
            on_topics = {topic: [question.id for question in questions] for topic, questions in self.examples.items()}
            text = json.dumps([self.prompts.hashes("unpaired", "topic"), on_topics])
            digests["topics"] = hashlib.sha256(text.encode()).hexdigest()
        if self.documents:
            text = json.dumps([self.prompts.hashes("document", "informed"), [question.id for question in self.documents]])
            digests["documents"] = hashlib.sha256(text.encode()).hexdigest()
        if self.asks_certainty:
            (digests["certainty"],) = self.prompts.hashes("certainty").values()
        return digests if self.embedding.digest is None else {**digests, "embedding": self.embedding.digest}


def read_inputs(config: Config, weights: Path | None = None) -> RunInputs:
    """The inputs that a config names; the tokenizer is in `weights`, else in `model`. BadInput if one cannot be read."""
    if weights is None and is_gguf(config.model):
        # Before the minutes that dequantising a large model takes.
        refuse_unworkable(config, None)

    def load(use: Literal["goalposts", "practice", "test", "validation"], split: Split) -> QuestionSet:
        spec: str = getattr(config, use)
        if spec == "none" and use in ("test", "validation"):
            return QuestionList("none", ())
        with naming_setting(use):
            questions = load_questions(spec, split)
        return passable_questions(config, questions, use, lambda: weights or model_folder(config.model))

    goalposts = load("goalposts", "goalposts")
    _check_examined(config, goalposts)
    practice = goalposts if config.practice == "goalposts" else load("practice", "train")
    test, validation = load("test", "test"), load("validation", "validation")
    return RunInputs(
        spec=config.model,
        goalposts=goalposts,
        practice=_training(config, practice),
        test=test.questions,
        validation=validation.questions,
        rules={**validation.rules, **test.rules, **practice.rules, **goalposts.rules},
        prompts=Prompts.named(config.prompts),
        embedding=embedding(config.verify.embedding),
        examples=_examples(config, practice) if config.algorithm().plan.topics else {},
        documents=_documents(config, lambda: weights or model_folder(config.model)),
        asks_certainty=config.asks_certainty,
    )


def passable_questions(config: Config, questions: QuestionSet, use: str, weights: Callable[[], Path]) -> QuestionSet:
    """The questions that can be passed under a run's settings, the others named on standard error; BadInput if none can."""
    return passable(
        questions,
        use,
        config.verify.output_kb,
        PromptWindow(Prompts.named(config.prompts), config.max_prompt_tokens, weights),
        print_note,
    )


def _check_examined(config: Config, goalposts: QuestionSet) -> None:
    """Refuse trials that would be examined on the same few goalposts again and again."""
    count, questions = len(goalposts.questions), config.trials.questions
    if any(stage.trials for stage in config.algorithm().plan.stages) and count < 2 * questions:
        raise BadInput(
            f"The set goalposts={config.goalposts!r} has {count} questions, of which trials draw trials.questions={questions}"
            f" anew each time; give {2 * questions} or more, or lower trials.questions."
        )


def _training(config: Config, questions: QuestionSet) -> tuple[Question, ...]:
    """The training questions that the plan uses: all, a sample of those with a program, or none."""
    plan = config.algorithm().plan
    if any(stage.texts for stage in plan.stages):
        return _with_programs(config, questions)
    if not plan.references:
        return tuple(questions.questions) if plan.real_data else ()
    seeds = [question for question in questions.questions if question.program is not None and question.mode == "function"]
    if not seeds:
        raise BadInput(
            f"The recipe {config.recipe} shows its teacher programs of training questions, and none of {config.practice!r}"
            " has a function as its program; set practice to questions that have."
        )
    return tuple(rng(config.seed, "seeds").sample(seeds, min(plan.seeds, len(seeds))))


def _with_programs(config: Config, questions: QuestionSet) -> tuple[Question, ...]:
    """The training questions that have a program, which the student is given to learn."""
    having = tuple(question for question in questions.questions if question.program is not None)
    if not having:
        raise BadInput(
            f"The recipe {config.recipe} teaches the programs of training questions, and none of {config.practice!r} has one;"
            " set practice to questions that have."
        )
    if lacking := len(questions.questions) - len(having):
        print_note(f"practice: {lacking} of {len(questions.questions)} questions have no program to learn; they are left out.")
    return having


def _examples(config: Config, questions: QuestionSet) -> dict[str, tuple[Question, ...]]:
    """Training questions that mention each topic; where the prompt shows no example and none mentions it, all of them."""
    shown = Prompts.named(config.prompts).topic_shows_an_example
    pool = [question for question in questions.questions if question.mode == "function" and (question.program or not shown)]
    examples: dict[str, tuple[Question, ...]] = {}
    for topic in config.play.topics:
        on_topic = tuple(question for question in pool if topic.lower() in question.statement.lower())
        if not pool or (shown and not on_topic):
            raise BadInput(
                f"No training question of {config.practice!r} has a function as its program and mentions {topic!r}, of which"
                f" the prompts {config.prompts} show an example; change play.topics, or practice."
            )
        examples[topic] = on_topic or tuple(pool)
    return examples


def _documents(config: Config, weights: Callable[[], Path]) -> tuple[Question, ...]:
    """The documents that the plan has questions about; BadInput if all are too long for the prompts that show them."""
    if not any(stage.documents for stage in config.algorithm().plan.stages):
        return ()
    source, prompts = config.documents.source, Prompts.named(config.prompts)
    with naming_setting("documents.source"):
        loaded = load_questions(source, "documents").questions
    window = PromptWindow(prompts, config.max_prompt_tokens, weights, lambda document: prompts.document(document, "medium"))
    fitting = tuple(document for document in loaded if window.exceeded(document) is None)
    if not fitting:
        raise BadInput(
            f"Every document of {source!r} makes a prompt of more than max_prompt_tokens={config.max_prompt_tokens}, and would"
            " be cut; raise it, or set documents.source to shorter ones."
        )
    if cut := len(loaded) - len(fitting):
        print_note(f"documents.source: {cut} of {len(loaded)} documents are too long for max_prompt_tokens; they are left out.")
    return fitting


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


def record_goalposts(log: Log, goalposts: QuestionSet) -> None:
    """Append the goalposts to a log that has none yet."""
    if log.version(GOALPOSTS) == 0:
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
    """An evaluator of the student that `model` serves; `weights`: the folder of its weights, or of others of that size."""
    # Servers make their own batches, so no question waits for another.
    served = not config.repeatable
    scheduler = make_scheduler("concurrent" if served else config.play.order, activity)
    gpu = bool(config.serve.devices) or Path("/dev/nvidiactl").exists()
    batch = None if served else questions_at_once(weight_count(weights), config.evaluate, gpu=gpu, in_run=in_run)
    solver, verifier = Solver(scheduler.model(model), prompts, log), make_verifier(config, scheduler.runner(runner), rules)
    return Evaluator(log, solver, verifier, scheduler, config.evaluate, config.seed, batch, repeatable=config.repeatable)


def last_served_weights(folder: Path, config: Config, log: Log) -> dict[str, PolicyWeights]:
    """The weights of each policy, by its name, that were served last; at the start, the run's first."""
    policies = dict(run_started(log).policies)
    for event in log.read(RUN, kinds=("policy_served",)):
        if isinstance(event.fact, PolicyServed):
            policies[event.fact.role] = event.fact.policy
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
) -> Play:
    """The run with all its parts, ready to play; with `claims`, where it is played in shares."""
    context = _node_context(config, log, inputs, runner, scheduler, models)
    shared = config.play.shares > 1
    if not shared:
        restore_novelty(log, context.novelty)
    assert shared == (claims is not None)
    return Play(
        folder=folder,
        config=config,
        log=log,
        context=context,
        graph=build(config.play, context.recipe.plan),
        scheduler=scheduler,
        models=models,
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
        trainer=trainer,
        goalposts=inputs.goalposts.questions,
        practice=inputs.practice if any(stage.uses_real_questions for stage in context.recipe.plan.stages) else (),
        seeds=inputs.practice if context.recipe.plan.references else (),
        examples=inputs.examples,
        documents=inputs.documents,
        test=inputs.test,
        validation=inputs.validation,
        sync_checker=WeightSyncChecker(exact=config.exact),
        policies=dict(run_started(log).policies),
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
