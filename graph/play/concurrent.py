"""Concurrent scheduler: each episode calls the model and the sandbox as soon as it can.

It keeps servers that make their own batches busy. The events of one episode are in its own stream and unaffected by the
others. Across episodes, the order of events, and which of two equal questions counts as novel, depend on timing, so equal runs
have different head hashes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from events.facts.values import Provenance
from events.process.activity import Activity
from graph.play.resumed_calls import EarlierCalls
from roles.model import Model
from sandbox.runner import Job, JobResult, Runner


class Concurrent:
    """Runs episodes side by side."""

    def __init__(self, activity: Activity | None = None) -> None:
        self.activity = activity or Activity()

    async def play(self, episodes: Sequence[Coroutine[Any, Any, None]], earlier: Sequence[EarlierCalls] = ()) -> None:
        """Run all episodes to their end, without regard to calls from before a stop; see `Scheduler.play`."""
        tasks = [asyncio.create_task(episode) for episode in episodes]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for pending in tasks:
                pending.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def model(self, model: Model) -> Model:
        """The model itself."""
        return model

    def runner(self, runner: Runner) -> Runner:
        """The sandbox itself, with progress reported."""
        return _ReportingRunner(runner, self.activity)


@dataclass(frozen=True)
class _ReportingRunner:
    inner: Runner
    activity: Activity

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        with self.activity.task("running programs", len(jobs), phase="programs") as task:
            results = await self.inner.run(jobs)
            task.add(len(jobs))
            return results

    async def close(self) -> None:
        await self.inner.close()
