"""Many walks at once, their model and sandbox calls in common batches, in an order that no timing can change.

Law: a batch goes out when every live walk waits, and walks go on one after the other in their own order. So batch
boundaries and the order of appends depend on the walks alone, and equal runs have equal logs. A walk makes one call at a time,
so its n-th call is in the n-th batch; that is recorded, and a walk that goes on after a stop takes its old place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.facts.values import Digest, Provenance
from events.process.activity import Activity
from graph.play.recorded import observe
from graph.play.resumed_calls import OBSERVED_CALLS, EarlierCalls
from roles.model import GenerationReply, GenerationRequest, Model
from sandbox.runner import Job, JobResult, Runner

BatchCall = Callable[[Sequence[Any]], Awaitable[list[Any]]]


@dataclass
class _LockstepEpisode:
    """One walk's place in line; `rests` is set while it waits for a batch or has ended."""

    rests: asyncio.Event
    past: Sequence[Callable[[], Awaitable[None]] | None] = ()
    """Calls that it made before the run was stopped, as far as they are made again."""
    calls: int = 0
    """How many it has made."""
    again: bool = False
    """Whether the present one is of the past, so that nobody needs its answer."""
    call: tuple[BatchCall, Sequence[Any], asyncio.Future[list[Any]]] | None = None


_current_episode: ContextVar[_LockstepEpisode] = ContextVar("walk")


async def _no_op(items: Sequence[Any]) -> list[Any]:
    """A call that is only waited for."""
    return []


class Lockstep:
    """Plays walks in lockstep."""

    def __init__(self, activity: Activity | None = None) -> None:
        self.activity = activity or Activity()

    async def play(self, walks: Sequence[Coroutine[Any, Any, None]], past: Sequence[EarlierCalls] = ()) -> None:
        """Play all walks to their end.

        Args:
            walks: what is played.
            past: what each of them has asked before, if a run goes on.

        Raises:
            BaseException: the first one that a walk or a batch raised; the other walks are cancelled first.
        """
        tasks: list[asyncio.Task[None]] = []
        line: list[_LockstepEpisode] = []
        # Batches before this one are whole.
        first = min((len(one.calls) for one in past if not one.over), default=0)
        done = all(one.over for one in past)
        try:
            for walk, before in zip(walks, past or [EarlierCalls()] * len(walks), strict=True):
                place = _LockstepEpisode(asyncio.Event(), () if done else before.calls[first:], first)
                line.append(place)
                tasks.append(asyncio.create_task(self._walk(place, walk)))
                await place.rests.wait()
            while waiting := [place for place in line if place.call is not None]:
                await self._batch(waiting)
                for broken in (task for task in tasks if task.done()):
                    broken.result()
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for walk in walks[len(tasks) :]:
                walk.close()

    async def _walk(self, place: _LockstepEpisode, walk: Coroutine[Any, Any, None]) -> None:
        _current_episode.set(place)
        try:
            place.again = True
            for ask in place.past:
                await (self._call("runner", _no_op, ()) if ask is None else ask())
            place.again = False
            await walk
        finally:
            walk.close()
            place.rests.set()

    async def _batch(self, waiting: Sequence[_LockstepEpisode]) -> None:
        """Serve every waiting call, all calls of one service together and the services side by side; then go on in order."""
        groups: dict[BatchCall, list[_LockstepEpisode]] = {}
        for place in waiting:
            assert place.call is not None
            groups.setdefault(place.call[0], []).append(place)
        answers = await asyncio.gather(*(self._served(serve, group) for serve, group in groups.items()))
        answered = {id(place): answer for group in answers for place, answer in group}
        for place in waiting:
            assert place.call is not None
            future = place.call[2]
            place.call = None
            place.rests.clear()
            future.set_result(answered[id(place)])
            await place.rests.wait()

    @staticmethod
    async def _served(serve: BatchCall, group: Sequence[_LockstepEpisode]) -> list[tuple[_LockstepEpisode, list[Any]]]:
        calls = [place.call for place in group if place.call is not None]
        if all(place.again for place in group):
            return [(place, [None] * len(call[1])) for place, call in zip(group, calls, strict=True)]
        results = await serve([item for call in calls for item in call[1]])
        cut, answers = 0, []
        for place, call in zip(group, calls, strict=True):
            answers.append((place, results[cut : cut + len(call[1])]))
            cut += len(call[1])
        return answers

    @staticmethod
    async def _call(kind: str, serve: BatchCall, items: Sequence[Any]) -> list[Any]:
        place = _current_episode.get()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        place.call = (serve, items, future)
        place.calls += 1
        observe(OBSERVED_CALLS, place.calls, kind)
        place.rests.set()
        return await future

    def model(self, model: Model) -> Model:
        """The same model, batched over walks."""

        async def serve(requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
            return await model.generate(requests)

        return _BatchedModel(model, serve)

    def runner(self, runner: Runner) -> Runner:
        """The same runner, batched over walks."""

        async def serve(jobs: Sequence[Job]) -> list[JobResult]:
            with self.activity.task(f"running {len(jobs)} programs"):
                return await runner.run(jobs)

        return _BatchedRunner(runner, serve)


@dataclass(frozen=True)
class _BatchedModel:
    inner: Model
    serve_batch: BatchCall

    @property
    def policy(self) -> Digest:
        return self.inner.policy

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        return await Lockstep._call("model", self.serve_batch, requests)

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        await self.inner.load_weights(weights, policy)

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        return await self.inner.logprobs_of(tokens)

    async def sleep(self) -> None:
        await self.inner.sleep()

    async def close(self) -> None:
        await self.inner.close()


@dataclass(frozen=True)
class _BatchedRunner:
    inner: Runner
    serve_batch: BatchCall

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        return await Lockstep._call("runner", self.serve_batch, jobs)

    async def close(self) -> None:
        await self.inner.close()
