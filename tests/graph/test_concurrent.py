"""A concurrent scheduler makes no episode wait for another, and the first failure ends all."""

import asyncio

import pytest
from pydantic import ValidationError

from events.facts.errors import SandboxError
from graph.play.concurrent import Concurrent
from graph.play.scheduler import make_scheduler
from graph.settings.config import Config


async def test_a_slow_episode_holds_up_nobody() -> None:
    acknowledgements, gate = [], asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        acknowledgements.append("slow")

    async def quick(name: str) -> None:
        for call in range(3):
            await asyncio.sleep(0)
            acknowledgements.append(f"{name}{call}")
        if name == "b":
            gate.set()

    await Concurrent().play([slow(), quick("a"), quick("b")])
    assert acknowledgements[-1] == "slow"
    assert len(acknowledgements) == 7


async def test_a_failing_episode_ends_the_others() -> None:
    free, ended = Concurrent(), []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise SandboxError("the engine is gone")

    with pytest.raises(SandboxError, match="the engine is gone"):
        await free.play([endless(), endless(), fail()])
    assert ended == [True] * 2


async def test_no_episodes_are_played_at_once() -> None:
    await make_scheduler("concurrent").play([])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"play": {"order": "concurrent"}}, "play.order = concurrent needs serve.backend = vllm"),
        ({"serve": {"urls": ["http://gpu-1:8000"]}}, "serve.urls needs serve.backend = vllm"),
        (
            {"policies": "separate", "serve": {"backend": "vllm", "urls": ["http://gpu-1:8000"]}},
            "serve.urls can hold one set of whole weights",
        ),
    ],
)
def test_what_could_not_be_served_is_refused(settings, why) -> None:
    with pytest.raises(ValidationError, match=why):
        Config(**settings)


def test_drift_is_as_loose_as_the_looser_side_computes() -> None:
    exact = Config()
    loose = [Config(serve={"dtype": "bfloat16"}), Config(learn={"precision": "bfloat16"})]
    assert exact.exact
    assert not any(config.exact for config in loose)
    assert all(config.mismatch_limit > exact.mismatch_limit for config in loose)
    assert Config(learn={"drift": 0.5}, serve={"dtype": "bfloat16"}).mismatch_limit == 0.5
