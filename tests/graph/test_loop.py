"""The whole loop of play with a scripted model: failures of one episode, of all, and a crash before any append."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from events.facts.errors import GaspError, SandboxError
from events.facts.types import (
    EpisodeFailed,
    EpisodeFinished,
    EvaluationFinished,
    IterationFinished,
    PolicyProbed,
    PolicyUpdated,
    RunFinished,
)
from events.facts.values import Question
from events.projections.run_summary import RunSummary, fold
from events.stores.memory import MemoryLog
from graph.play.build import build
from graph.play.context import NodeContext, restore_novelty
from graph.play.episode_sampling import QuestionPools
from graph.play.evaluation import Evaluator
from graph.play.iterations import Play
from graph.play.lockstep import Lockstep
from graph.play.served_weights import ServedWeights
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from roles.judging.similarity import NgramEmbedding, Novelty
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Verifier
from tests.graph.test_play import GOALPOST, ScriptedAnswers, Tripwire
from tests.support.scripted_model import ScriptedModel

pytestmark = pytest.mark.docker

OTHER = GOALPOST.model_copy(update={"statement": "Given a list, do the impossible."})
SETTINGS = {
    "play": {"iterations": 2, "episodes": 2, "practice": 1, "practice_attempts": 2, "max_attempts": 1},
    "evaluate": {"questions": 1, "attempts": 2},
}


class InstantLearner:
    """Learns at once and nothing: the next update in the log, with the weights that there were."""

    def __init__(self, log):
        self.log = log

    async def wait_for_update(self, policy, iteration):
        stream = f"policy/{policy}"
        if iteration not in [event.fact.iteration for event in self.log.read(stream)]:
            fact = PolicyUpdated(
                policy=policy,
                parent="0" * 64,
                digest="0" * 64,
                iteration=iteration,
                after=0,
                until=0,
                samples="",
                step=0,
                steps=(),
            )
            self.log.append(stream, [fact])
        return "0" * 64

    async def wait_for_probe(self, policy, digest):
        return PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=(-0.5, -0.5))


class FailingScript(ScriptedAnswers):
    """Raises when it is shown one of the named statements."""

    def __init__(self, *statements):
        super().__init__()
        self.statements = statements

    def __call__(self, prompt, seed, index):
        if any(statement in prompt for statement in self.statements):
            raise ValueError("this prompt cannot be read")
        return super().__call__(prompt, seed, index)


def make_play(log, runner, script, tmp_path, questions: tuple[Question, ...] = (GOALPOST, OTHER), **settings) -> Play:
    config, lockstep = Config(**{**SETTINGS, **settings}), Lockstep()
    inner = ScriptedModel(script)
    model = UnbatchedModel(inner)
    prompts = Prompts(SHIPPED_PROMPTS / "pocket")
    solver = Solver(model, prompts, log)
    verifier = Verifier(lockstep.runner(runner), 5, 2)
    table = NodeContext(
        log=log,
        teacher=Teacher(model, prompts, log, config.play.teacher.sampling),
        solver=solver,
        verifier=verifier,
        novelty=Novelty(NgramEmbedding()),
        recipe=config.algorithm(),
        play=config.play,
        similarity=0.95,
    )
    restore_novelty(log, table.novelty)
    return Play(
        config=config,
        log=log,
        context=table,
        graph=build(config.play, config.algorithm().plan),
        scheduler=lockstep,
        evaluator=Evaluator(log, Solver(lockstep.model(inner), prompts, log), verifier, lockstep, config.evaluate, 0),
        weights=ServedWeights(
            log=log,
            store=tmp_path / "weights",
            policy_of=config.policy_of,
            models={"shared": inner},
            trainer=InstantLearner(log),
            checker=WeightSyncChecker(exact=True),
            activity=lockstep.activity,
            digests={"teacher": "0" * 64, "student": "0" * 64},
        ),
        pools=QuestionPools(goalposts=questions, practice=(GOALPOST,)),
    )


class UnbatchedModel:
    """Asks the model outside of the common batch, so that an error is one episode's own."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def policy(self):
        return self.inner.policy

    async def generate(self, requests):
        return await self.inner.generate(requests)


def facts(log, kind):
    return [event.fact for event in log.read() if isinstance(event.fact, kind)]


async def test_a_bad_episode_is_data_and_its_siblings_go_on(log, runner, tmp_path):
    await make_play(log, runner, FailingScript(OTHER.statement), tmp_path).run()
    failed = facts(log, EpisodeFailed)
    assert {(fact.error, fact.message) for fact in failed} == {("ValueError", "this prompt cannot be read")}
    assert [(fact.finished, fact.failed) for fact in facts(log, IterationFinished)] == [(2, 1), (2, 1)]
    assert len(facts(log, EpisodeFinished)) == 4


async def test_when_every_guided_episode_fails_the_run_stops_and_can_go_on(log, runner, tmp_path):
    script = FailingScript("easier")
    for iteration in (1, 2):
        with pytest.raises(GaspError, match=f"Every guided episode of iteration {iteration} failed.*--resume"):
            await make_play(log, runner, script, tmp_path).run()
    await make_play(log, runner, script, tmp_path).run()
    assert [fact.failed for fact in facts(log, IterationFinished)] == [2, 2]
    assert log.verify() is None


@pytest.mark.slow
async def test_a_run_broken_off_before_any_append_ends_as_if_it_had_not_been(runner, tmp_path):
    whole = MemoryLog()
    counter = Tripwire(whole, 10_000)
    await make_play(counter, runner, ScriptedAnswers(), tmp_path).run()
    events = {stream: [event.fact for event in whole.read(stream)] for stream in {event.stream for event in whole.read()}}
    for crash in range(10_000 - counter.left):
        log, script = MemoryLog(), ScriptedAnswers()
        with pytest.raises(SandboxError):
            await make_play(Tripwire(log, crash), runner, script, tmp_path).run()
        await make_play(log, runner, script, tmp_path).run()
        again = {stream: [event.fact for event in log.read(stream)] for stream in {event.stream for event in log.read()}}
        assert again == events, f"crash before append {crash}"


async def test_play_may_be_ahead_of_learning_by_as_much_as_is_set(runner, tmp_path):
    log, play = MemoryLog(), {**SETTINGS["play"], "iterations": 3, "episodes": 0}
    await make_play(log, runner, ScriptedAnswers(), tmp_path, play=play, learn={"staleness": 1}).run()
    events = [
        (event.fact.kind, event.fact.iteration)
        for event in log.read()
        if event.fact.kind in ("iteration_started", "policy_updated")
    ]
    started, updated = "iteration_started", "policy_updated"
    assert events == [(started, 1), (started, 2), (updated, 1), (started, 3), (updated, 2), (updated, 3)]
    assert [event.fact.iteration for event in log.read(kinds=("evaluation_finished",))] == [0, 3]


def finished(log) -> tuple[list[int], list[int], list[int]]:
    """Samples after each iteration, iterations after which was evaluated, and what the end says."""
    samples = fold(RunSummary(), log.read()).samples.after
    evaluated = [event.fact.iteration for event in log.read(kinds=("evaluation_finished",))]
    return list(samples.values()), evaluated, [fact.iterations for fact in facts(log, RunFinished)]


PRACTICE = {"iterations": 9, "episodes": 0, "practice": 1, "practice_attempts": 2}
BUDGET = {"recipe": "rlvr", "play": {**PRACTICE, "samples": 7}, "evaluate": {"questions": 1, "attempts": 2, "every_samples": 3}}


async def test_no_iteration_starts_once_the_students_samples_are_spent(log, runner, tmp_path):
    await make_play(log, runner, ScriptedAnswers(), tmp_path, **BUDGET).run()
    # Two a question: 3 are crossed by the second iteration, 6 by the third, 7 are spent after the fourth.
    assert finished(log) == ([0, 2, 4, 6, 8], [0, 2, 3, 4], [4])


async def test_iterations_end_a_run_whose_samples_are_not_spent(log, runner, tmp_path):
    await make_play(
        log, runner, ScriptedAnswers(), tmp_path, **{**BUDGET, "play": {**PRACTICE, "iterations": 2, "samples": 7}}
    ).run()
    assert finished(log) == ([0, 2, 4], [0, 2], [2])


async def test_a_run_that_is_ahead_of_learning_stops_at_the_same_sample_and_learns_the_rest(log, runner, tmp_path):
    await make_play(log, runner, ScriptedAnswers(), tmp_path, **BUDGET, learn={"staleness": 2}).run()
    assert finished(log) == ([0, 2, 4, 6, 8], [0, 2, 3, 4], [4])
    assert [fact.iteration for fact in facts(log, PolicyUpdated)] == [1, 2, 3, 4]


@pytest.mark.parametrize("crash", [9, 14, 23, 30])
async def test_a_run_broken_off_ends_at_the_same_sample(log, runner, tmp_path, crash):
    with pytest.raises(SandboxError):
        await make_play(Tripwire(log, crash), runner, ScriptedAnswers(), tmp_path, **BUDGET).run()
    await make_play(log, runner, ScriptedAnswers(), tmp_path, **BUDGET).run()
    assert finished(log) == ([0, 2, 4, 6, 8], [0, 2, 3, 4], [4])


async def test_the_first_weights_are_examined_unless_told_otherwise(log, runner, tmp_path):
    await make_play(
        log, runner, ScriptedAnswers(), tmp_path, **{**BUDGET, "evaluate": {**BUDGET["evaluate"], "first": False}}
    ).run()
    assert finished(log) == ([0, 2, 4, 6, 8], [2, 3, 4], [4])


async def test_validation_questions_are_examined_beside_the_others(runner, tmp_path):
    play = make_play(MemoryLog(), runner, ScriptedAnswers(), tmp_path, **BUDGET)
    await replace(play, held_out={"validation": (OTHER,)}).run()
    evaluated = [(fact.name, fact.iteration) for fact in facts(play.log, EvaluationFinished)]
    assert evaluated == [(name, iteration) for iteration in (0, 2, 3, 4) for name in ("goalposts", "validation")]


@pytest.mark.parametrize("name", ["gasp", "gasp_real"])
async def test_gasp_is_played_as_it_always_was(log, runner, tmp_path, name):
    """Whatever other recipes need, the same seed asks, accepts and rewards the same, in the same order."""
    await make_play(log, runner, ScriptedAnswers(), tmp_path, recipe=name).run()
    digest = hashlib.sha256()
    for event in log.read():
        if not event.stream.startswith("episode/"):
            continue
        fact = event.fact.model_dump(mode="json", exclude={"provenance": True, "generation": {"template", "prompt"}})
        digest.update(f"{event.stream} {event.version} {json.dumps(fact, sort_keys=True)}\n".encode())
    assert digest.hexdigest() == "c1a7974c22b0eb7da5072bc60a3539aec6cb95df68bf6b3fb830e28d7074b3b1"
