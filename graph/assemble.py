"""Puts a run together: folder, log, models, sandbox, roles, graph. What is wrong with the input shows here, before play."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from events.errors import BadInput
from events.log import Log
from events.stores import open_log
from events.types import GoalpostAdded, RunStarted
from events.values import Digest, Question, Role
from events.weights import weights_digest
from graph.build import build
from graph.config import Config
from graph.examine import Examiner
from graph.learner import Learner
from graph.lockstep import Lockstep
from graph.play import Play
from graph.provenance import commit, versions
from graph.recipes import recipe
from graph.table import Table, recall
from roles.model import Model
from roles.prompt import PROMPTS, Prompts
from roles.question_set import QuestionSet, load
from roles.record import put_question
from roles.similarity import Novelty, embedding
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Truth, Verifier
from sandbox.runner import Limits, Runner

LOG = "log.sqlite"
LEAST_FREE = 500 * 2**20
"""Bytes that must be free on disk before a run starts."""


def model_folder(spec: str) -> Path:
    """The weights folder that the setting `model` names.

    Raises:
        BadInput: there is none.
    """
    if spec == "pocket":
        from roles.pocket import WEIGHTS

        return WEIGHTS
    folder = Path(spec).expanduser()
    if not (folder / "config.json").is_file():
        raise BadInput(f"There is no model in {spec!r}: a folder with config.json is expected; check --set model=...")
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for this process alone.

    Raises:
        BadInput: another process plays it.
    """
    with (folder / "run.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"Run {folder} is being played by another process; wait for it or stop it first.") from error
        yield


def create(folder: Path, config: Config) -> Log:
    """A new run: its folder, the starting weights, and the first events of its log.

    Raises:
        BadInput: the folder exists, the disk is full, or an input is wrong; nothing is left behind.
    """
    source = model_folder(config.model)
    if folder.exists():
        raise BadInput(f"Run folder {folder} exists; choose another --name, or go on with --resume {folder}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < LEAST_FREE:
        raise BadInput(f"Less than {LEAST_FREE // 2**20} MiB are free where {folder} would be; free some space or set --runs.")
    digest = weights_digest(source)
    shutil.copytree(source, folder / "weights" / digest, ignore=shutil.ignore_patterns("README*", "*.md"))
    log = open_log(folder / LOG, create=True)
    started = RunStarted(
        config=json.loads(config.model_dump_json()),
        versions=versions(),
        commit=commit(),
        policies=dict.fromkeys(config.policy_of, digest),
    )
    log.append("run", [started], expected=0)
    return log


def reopen(folder: Path) -> tuple[Log, Config]:
    """An existing run, with the config it was started with.

    Raises:
        BadInput: there is no run in the folder.
    """
    if not (folder / LOG).is_file():
        raise BadInput(f"There is no run in {folder} (no {LOG}); give the folder or the name of a run.")
    log = open_log(folder / LOG)
    config = Config(**started(log).config)
    return log, config


def started(log: Log) -> RunStarted:
    """The first event of a run.

    Raises:
        BadInput: the log holds no run.
    """
    for event in log.read("run", limit=1):
        if isinstance(event.fact, RunStarted):
            return event.fact
    raise BadInput("The log holds no run: its first event is missing; the run never started, so start a new one.")


@dataclass(frozen=True)
class Inputs:
    """What a run reads from files."""

    goalposts: QuestionSet
    practice: tuple[Question, ...]
    test: tuple[Question, ...]
    prompts: Prompts


def inputs(config: Config) -> Inputs:
    """The question sets and prompts that a config names.

    Raises:
        BadInput: one cannot be read.
    """
    folder = PROMPTS / config.prompts
    return Inputs(
        goalposts=load(config.goalposts, "goalposts"),
        practice=load(config.practice, "train").questions if recipe(config).practices else (),
        test=() if config.test == "none" else load(config.test, "test").questions,
        prompts=Prompts(folder if folder.is_dir() else Path(config.prompts)),
    )


def put_up(log: Log, goalposts: QuestionSet) -> None:
    """Add the goalposts to a log that has none yet.

    Raises:
        BadInput: the log has others.
    """
    facts = [GoalpostAdded(question=q.id, blob=put_question(log, q), source=goalposts.name) for q in goalposts.questions]
    known = [event.fact for event in log.read("goalposts")]
    if not known:
        log.append("goalposts", facts, expected=0)
    elif known != facts:
        raise BadInput(f"The goalposts of {goalposts.name} changed since the run started; put the old file back.")


def seat(folder: Path, config: Config, log: Log, given: Inputs, runner: Runner) -> Play:
    """Everybody at the table, ready to play."""
    put_up(log, given.goalposts)
    lockstep = Lockstep()
    policies = dict(started(log).policies)
    models = _models(folder, config, policies)
    solver = Solver(lockstep.model(models["student"]), given.prompts, log)
    verifier = Verifier(
        lockstep.runner(runner),
        config.play.pairs,
        config.play.public_pairs,
        config.verify.distinct,
        _truth(config.goalposts),
    )
    table = Table(
        log=log,
        teacher=Teacher(lockstep.model(models["teacher"]), given.prompts, log, config.play.teacher),
        solver=solver,
        verifier=verifier,
        novelty=Novelty(embedding(config.verify.embedding)),
        recipe=recipe(config),
        play=config.play,
        similarity=config.verify.similarity,
    )
    recall(log, table.novelty)
    return Play(
        folder=folder,
        config=config,
        log=log,
        table=table,
        graph=build(config.play),
        lockstep=lockstep,
        models=models,
        examiner=Examiner(log, solver, verifier, lockstep, config.evaluate, config.seed),
        learner=Learner(folder, log),
        goalposts=given.goalposts.questions,
        practice=given.practice,
        test=given.test,
        policies=policies,
    )


def _models(folder: Path, config: Config, policies: dict[Role, Digest]) -> dict[Role, Model]:
    from roles.models.transformers import TransformersModel

    made: dict[str, Model] = {}
    for role, policy in config.policy_of.items():
        if policy not in made:
            weights = folder / "weights" / policies[role]
            made[policy] = TransformersModel(weights, policies[role], max_prompt_tokens=config.max_prompt_tokens)
    return {role: made[policy] for role, policy in config.policy_of.items()}


def _truth(goalposts: str) -> Truth | None:
    if goalposts != "pocket":
        return None
    from roles.pocket.world import truth

    return truth


def limits(config: Config) -> Limits:
    """What an untrusted program may use."""
    seconds = config.verify.wall_seconds
    return Limits(wall_seconds=seconds, cpu_seconds=max(1, round(seconds)), memory_mb=config.verify.memory_mb)
