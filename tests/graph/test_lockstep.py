from __future__ import annotations

import asyncio
import random

import pytest

from events.facts.errors import SandboxError
from events.facts.values import Provenance, Sampling
from graph.play.lockstep import Lockstep
from roles.model import GenerationRequest
from sandbox.runner import InputRun, Job, JobResult
from tests.support.scripted_model import ScriptedModel


class EchoRunner:
    """Answers each job with its source, after a random while."""

    provenance = Provenance(image="echo", limits={})

    def __init__(self):
        self.batches = []

    async def run(self, jobs):
        self.batches.append(len(jobs))
        await asyncio.sleep(random.random() / 200)
        return [
            JobResult(runs=(InputRun(status="ok", value=job.source),), seconds=0.0, cpu_seconds=0.0, peak_mb=0.0)
            for job in jobs
        ]

    async def close(self): ...


def request(name: str) -> GenerationRequest:
    return GenerationRequest(name, 1, 0, Sampling())


async def run_episode(name, rounds, model, runner, told):
    for turn in range(rounds):
        (reply,) = await model.generate([request(f"{name}{turn}")])
        assert reply.completions[0].text == f"{name}{turn}!"
        await asyncio.sleep(random.random() / 500)
        told.append((name, turn, "model"))
        (execution,) = await runner.run([Job(source=f"{name}{turn}", inputs=("",))])
        assert execution.runs[0].value == f"{name}{turn}"
        told.append((name, turn, "runner"))


async def play(rounds):
    lockstep, inner, acknowledgements = Lockstep(), ScriptedModel(lambda prompt, seed, index: prompt + "!"), []
    runner = EchoRunner()
    model, batched = lockstep.model(inner), lockstep.runner(runner)
    await lockstep.play([run_episode(name, rounds[name], model, batched, acknowledgements) for name in rounds])
    return inner.batches, runner.batches, acknowledgements


async def test_one_batch_goes_out_when_every_live_episode_waits():
    models, runners, _ = await play({"a": 2, "b": 1, "c": 2})
    assert models == [3, 2]
    assert runners == [3, 2]


async def test_order_does_not_depend_on_timing():
    first = await play({"a": 3, "b": 1, "c": 2})
    assert all([await play({"a": 3, "b": 1, "c": 2}) == first for _ in range(3)])


async def test_model_and_sandbox_calls_of_one_moment_go_side_by_side():
    lockstep, model, runner = Lockstep(), ScriptedModel(lambda prompt, seed, index: prompt), EchoRunner()

    async def ask():
        await lockstep_model.generate([request("x")])

    async def run():
        await lockstep_runner.run([Job(source="y", inputs=("",))])

    lockstep_model, lockstep_runner = lockstep.model(model), lockstep.runner(runner)
    await lockstep.play([ask(), run(), ask()])
    assert (model.batches, runner.batches) == ([2], [1])


async def test_a_failing_service_stops_every_episode():
    class Broken(EchoRunner):
        async def run(self, jobs):
            raise SandboxError("The engine is gone.")

    lockstep, ended = Lockstep(), []
    runner = lockstep.runner(Broken())

    async def wait():
        try:
            await runner.run([Job(source="", inputs=("",))])
        finally:
            ended.append(True)

    with pytest.raises(SandboxError):
        await lockstep.play([wait(), wait()])
    assert ended == [True, True]


async def test_a_failing_episode_stops_the_others_at_the_next_batch():
    lockstep = Lockstep()
    runner = lockstep.runner(EchoRunner())

    async def fail():
        await runner.run([Job(source="", inputs=("",))])
        raise ValueError("mine")

    async def endless():
        while True:
            await runner.run([Job(source="", inputs=("",))])

    with pytest.raises(ValueError, match="mine"):
        await lockstep.play([endless(), fail()])
