"""An evaluation keeps what is done: at once where a server answers, batch by batch where the model is in this process."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from events.facts.types import AttemptsMade, EvaluationFinished
from events.facts.values import Sampling
from events.process.activity import Activity
from events.stores.memory import MemoryLog
from graph.play.concurrent import Concurrent
from graph.play.evaluation import Evaluator, questions_at_once
from graph.settings.config import EvaluateSettings
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS
from roles.questions.load import load_questions
from roles.solver import Solver
from roles.verifier import Verifier
from tests.graph.test_lockstep import EchoRunner
from tests.support.scripted_model import ScriptedModel

QUESTIONS = load_questions("pocket", "test").questions[:5]
SETTINGS = EvaluateSettings(attempts=2)


class StallingModel(ScriptedModel):
    """A server of which some questions get no answer until it is released."""

    def __init__(self, held: int) -> None:
        super().__init__(lambda prompt, seed, index: "no program")
        self.asked, self.free = 0, asyncio.Event()
        self._held = held

    async def generate(self, requests):
        self.asked += len(requests)
        if self.asked > len(QUESTIONS) - self._held:
            await self.free.wait()
        return await super().generate(requests)


class UnusedRunner(EchoRunner):
    """A sandbox in which nothing has to run: no answer here holds a program."""

    async def run(self, jobs):
        assert not jobs
        return []


def evaluator(log, model) -> Evaluator:
    going = Concurrent(Activity())
    solver = Solver(going.model(model), Prompts(SHIPPED_PROMPTS / "pocket"), log)
    return Evaluator(log, solver, Verifier(going.runner(UnusedRunner()), 5, 2), going, SETTINGS, seed=0, repeatable=False)


def answered(log) -> list[str]:
    return [event.fact.question for event in log.read() if isinstance(event.fact, AttemptsMade)]


async def test_what_a_server_has_answered_is_kept_whatever_becomes_of_the_rest_and_only_that_is_asked_again() -> None:
    log, model = MemoryLog(), StallingModel(2)
    evaluating = asyncio.create_task(evaluator(log, model).evaluate("test", QUESTIONS, 0))
    while len(answered(log)) < 3:
        await asyncio.sleep(0)
    assert model.asked == 5
    evaluating.cancel()
    with suppress(asyncio.CancelledError):
        await evaluating
    again = StallingModel(0)
    result = await evaluator(log, again).evaluate("test", QUESTIONS, 0)
    assert isinstance(result, EvaluationFinished)
    assert again.asked == 2
    assert sorted(answered(log)) == sorted(question.id for question in QUESTIONS)
    assert result.successes == dict.fromkeys((question.id for question in QUESTIONS), 0)


@pytest.mark.parametrize(
    ("weights", "attempts", "tokens", "gpu", "in_run", "wanted"),
    [
        (920_000, 20, 96, False, True, None),
        (920_000, 20, 96, False, False, 12),
        (920_000, 1000, 96, False, False, 1),
        (135_000_000, 1, 256, False, True, 256),
        (135_000_000, 20, 256, False, True, 12),
        (494_000_000, 1, 512, False, False, 59),
        (7_000_000_000, 1, 1024, True, True, 209),
        (500_000_000, 1, 256, True, False, 256),
    ],
)
def test_what_is_sampled_together_follows_from_sizes_and_takes_minutes_at_most(
    weights, attempts, tokens, gpu, in_run, wanted
) -> None:
    settings = EvaluateSettings(attempts=attempts, sampling=Sampling(max_tokens=tokens))
    assert questions_at_once(weights, settings, gpu=gpu, in_run=in_run) == wanted
