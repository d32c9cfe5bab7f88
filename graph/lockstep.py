"""Many walks at once, their model and sandbox calls in common batches, in an order that no timing can change.

Law: a batch goes out when every live walk waits, and walks go on one after the other in their own order. So batch
boundaries and the order of appends depend on the walks alone, and equal runs have equal logs. A walk makes one call at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.values import Digest, Provenance
from roles.model import Model, Reply, Request
from sandbox.runner import Execution, Job, Runner

Serve = Callable[[Sequence[Any]], Awaitable[list[Any]]]


@dataclass
class _Walk:
    """One walk's place in line; `rests` is set while it waits for a batch or has ended."""

    rests: asyncio.Event
    call: tuple[Serve, Sequence[Any], asyncio.Future[list[Any]]] | None = None


_current: ContextVar[_Walk] = ContextVar("walk")


class Lockstep:
    """Plays walks in lockstep. `doing` says what the current batch is, for people."""

    def __init__(self) -> None:
        self.doing = ""

    async def play(self, walks: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Play all walks to their end.

        Raises:
            BaseException: the first one that a walk or a batch raised; the other walks are cancelled first.
        """
        tasks: list[asyncio.Task[None]] = []
        line: list[_Walk] = []
        try:
            for walk in walks:
                place = _Walk(asyncio.Event())
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
            self.doing = ""

    async def _walk(self, place: _Walk, walk: Coroutine[Any, Any, None]) -> None:
        _current.set(place)
        try:
            await walk
        finally:
            place.rests.set()

    async def _batch(self, waiting: Sequence[_Walk]) -> None:
        """Serve every waiting call, all calls of one service together and the services side by side; then go on in order."""
        groups: dict[Serve, list[_Walk]] = {}
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
    async def _served(serve: Serve, group: Sequence[_Walk]) -> list[tuple[_Walk, list[Any]]]:
        calls = [place.call for place in group if place.call is not None]
        results = await serve([item for call in calls for item in call[1]])
        cut, answers = 0, []
        for place, call in zip(group, calls, strict=True):
            answers.append((place, results[cut : cut + len(call[1])]))
            cut += len(call[1])
        return answers

    @staticmethod
    async def _call(serve: Serve, items: Sequence[Any]) -> list[Any]:
        place = _current.get()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        place.call = (serve, items, future)
        place.rests.set()
        return await future

    def model(self, model: Model) -> Model:
        """The same model, batched over walks."""

        async def serve(requests: Sequence[Request]) -> list[Reply]:
            self.doing = f"sampling {sum(request.count for request in requests)} answers"
            return await model.generate(requests)

        return _BatchedModel(model, serve)

    def runner(self, runner: Runner) -> Runner:
        """The same runner, batched over walks."""

        async def serve(jobs: Sequence[Job]) -> list[Execution]:
            self.doing = f"running {len(jobs)} programs"
            return await runner.run(jobs)

        return _BatchedRunner(runner, serve)


@dataclass(frozen=True)
class _BatchedModel:
    inner: Model
    serve_batch: Serve

    @property
    def policy(self) -> Digest:
        return self.inner.policy

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return await Lockstep._call(self.serve_batch, requests)

    async def serve(self, weights: Path, policy: Digest) -> None:
        await self.inner.serve(weights, policy)

    async def fingerprint(self, tokens: Sequence[int]) -> tuple[float, ...]:
        return await self.inner.fingerprint(tokens)

    async def rest(self) -> None:
        await self.inner.rest()

    async def close(self) -> None:
        await self.inner.close()


@dataclass(frozen=True)
class _BatchedRunner:
    inner: Runner
    serve_batch: Serve

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    async def run(self, jobs: Sequence[Job]) -> list[Execution]:
        return await Lockstep._call(self.serve_batch, jobs)

    async def close(self) -> None:
        await self.inner.close()
