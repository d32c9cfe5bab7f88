"""Lockstep scheduler: episodes run together, and their calls go out in common batches in a fixed order.

A batch goes out when every running episode waits for a call; then the episodes go on one after the other, in their own order.
So batch boundaries and the order of appends depend on the episodes alone, and equal runs have equal logs. An episode makes one
call at a time, so its n-th call is in the n-th batch; this is recorded, and a resumed episode takes its old place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from events.facts.values import Digest, Provenance
from events.process.activity import Activity
from graph.play.recorded import observe
from graph.play.resumed_calls import OBSERVED_CALLS, EarlierCalls
from roles.model import Encoding, GenerationReply, GenerationRequest, Model
from sandbox.runner import Job, JobResult, Runner

BatchFunction = Callable[[Sequence[Any]], Awaitable[list[Any]]]
"""Computes the results of a batch of requests, one for each in their order."""


class _Call(NamedTuple):
    """A call of an episode."""

    compute_batch: BatchFunction
    """Calls that wait together are one batch if they have the same."""
    requests: Sequence[Any]
    results: asyncio.Future[list[Any]]


@dataclass
class _LockstepEpisode:
    idle: asyncio.Event
    """Set while the episode waits for a batch, and once it has ended."""
    earlier: Sequence[Callable[[], Awaitable[None]] | None] = ()
    """Calls from before the run was stopped that have to be repeated."""
    calls: int = 0
    """Calls made so far."""
    repeating: bool = False
    """Whether the present call repeats an earlier one, so that its result is not needed."""
    call: _Call | None = None
    """The call that waits for a batch."""


# Each task has a context of its own, so that nodes and roles need not pass on which episode calls.
_current_episode: ContextVar[_LockstepEpisode] = ContextVar("episode")


async def _no_op(items: Sequence[Any]) -> list[Any]:
    return []


class Lockstep:
    """Runs episodes in lockstep."""

    def __init__(self, activity: Activity | None = None) -> None:
        self.activity = activity or Activity()

    async def play(self, episodes: Sequence[Coroutine[Any, Any, None]], earlier: Sequence[EarlierCalls] = ()) -> None:
        """Run all episodes to their end; see `Scheduler.play`."""
        tasks: list[asyncio.Task[None]] = []
        states: list[_LockstepEpisode] = []
        # Every episode that is not over still has its last call to finish. So batches before the smallest number of recorded
        # calls are complete in the log and need not be repeated.
        first = min((len(calls.calls) for calls in earlier if not calls.over), default=0)
        all_over = all(calls.over for calls in earlier)
        try:
            for episode, before in zip(episodes, earlier or [EarlierCalls()] * len(episodes), strict=True):
                state = _LockstepEpisode(asyncio.Event(), () if all_over else before.calls[first:], first)
                states.append(state)
                # The next one starts when this one waits, so that their first appends come in their order, too.
                tasks.append(asyncio.create_task(self._run(state, episode)))
                await state.idle.wait()
            while True:
                for done in (task for task in tasks if task.done()):
                    # Raises what ended an episode, since an error in one stops them all, before a batch goes out without it.
                    done.result()
                if not (waiting := [state for state in states if state.call is not None]):
                    break
                await self._batch(waiting)
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Python warns of coroutines that were never started, unless they are closed.
            for episode in episodes[len(tasks) :]:
                episode.close()

    async def _run(self, state: _LockstepEpisode, episode: Coroutine[Any, Any, None]) -> None:
        _current_episode.set(state)
        try:
            state.repeating = True
            for call in state.earlier:
                await (self._call("runner", _no_op, ()) if call is None else call())
            state.repeating = False
            await episode
        finally:
            episode.close()
            state.idle.set()

    async def _batch(self, waiting: Sequence[_LockstepEpisode]) -> None:
        """Make every waiting call, those of one function as one batch; then let the episodes go on, one after the other."""
        groups: dict[BatchFunction, list[_LockstepEpisode]] = {}
        for state in waiting:
            assert state.call is not None
            groups.setdefault(state.call.compute_batch, []).append(state)
        made = await asyncio.gather(*(self._compute(compute_batch, group) for compute_batch, group in groups.items()))
        results = {id(state): result for group in made for state, result in group}
        for state in waiting:
            call, state.call = state.call, None
            assert call is not None
            state.idle.clear()
            call.results.set_result(results[id(state)])
            # The next episode goes on only when this one waits again, so that appends come in the order of the episodes.
            await state.idle.wait()

    @staticmethod
    async def _compute(
        compute_batch: BatchFunction, group: Sequence[_LockstepEpisode]
    ) -> list[tuple[_LockstepEpisode, list[Any]]]:
        calls = [state.call for state in group if state.call is not None]
        if all(state.repeating for state in group):
            # Nobody needs a new result of this batch, so it is not computed.
            return [(state, [None] * len(call.requests)) for state, call in zip(group, calls, strict=True)]
        results = iter(await compute_batch([request for call in calls for request in call.requests]))
        return [(state, list(islice(results, len(call.requests)))) for state, call in zip(group, calls, strict=True)]

    @staticmethod
    async def _call(kind: str, compute_batch: BatchFunction, requests: Sequence[Any]) -> list[Any]:
        state = _current_episode.get()
        call = state.call = _Call(compute_batch, requests, asyncio.get_running_loop().create_future())
        state.calls += 1
        observe(OBSERVED_CALLS, state.calls, kind)
        state.idle.set()
        return await call.results

    def model(self, model: Model) -> Model:
        """The same model, batched over episodes."""

        async def compute_batch(requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
            return await model.generate(requests)

        return _BatchedModel(model, compute_batch)

    def runner(self, runner: Runner) -> Runner:
        """The same runner, batched over episodes."""

        async def compute_batch(jobs: Sequence[Job]) -> list[JobResult]:
            with self.activity.task(f"running {len(jobs)} programs", phase="programs"):
                return await runner.run(jobs)

        return _BatchedRunner(runner, compute_batch)


@dataclass(frozen=True)
class _BatchedModel:
    inner: Model
    compute_batch: BatchFunction

    @property
    def policy(self) -> Digest:
        return self.inner.policy

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        return await Lockstep._call("model", self.compute_batch, requests)

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        await self.inner.load_weights(weights, policy)

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        return await self.inner.logprobs_of(tokens)

    @property
    def encoding(self) -> Encoding:
        return self.inner.encoding

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        return await self.inner.continuation_logprobs(before, continuations)

    async def sleep(self) -> None:
        await self.inner.sleep()

    async def close(self) -> None:
        await self.inner.close()


@dataclass(frozen=True)
class _BatchedRunner:
    inner: Runner
    compute_batch: BatchFunction

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        return await Lockstep._call("runner", self.compute_batch, jobs)

    async def close(self) -> None:
        await self.inner.close()
