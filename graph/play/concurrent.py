"""Many walks at once, each as fast as it can: calls go to the model and the sandbox as they come.

Law: no walk waits for another, so that a server which makes its own batches is kept busy. An episode's facts are in its own
stream, whoever is faster; but in which order those of several reach the log depends on timing, and so does which of two equal
questions is the novel one: equal runs have different heads.
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
    """Plays walks side by side."""

    def __init__(self, activity: Activity | None = None) -> None:
        self.activity = activity or Activity()

    async def play(self, walks: Sequence[Coroutine[Any, Any, None]], past: Sequence[EarlierCalls] = ()) -> None:
        """Play all walks to their end; what they asked before a stop makes no difference here.

        Raises:
            BaseException: the first one that a walk raised; the other walks are cancelled first.
        """
        tasks = [asyncio.create_task(walk) for walk in walks]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def model(self, model: Model) -> Model:
        """The model itself."""
        return model

    def runner(self, runner: Runner) -> Runner:
        """The sandbox itself, which says how many programs it runs."""
        return _ReportingRunner(runner, self.activity)


@dataclass(frozen=True)
class _ReportingRunner:
    inner: Runner
    activity: Activity

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        with self.activity.task("running programs", len(jobs)) as task:
            done = await self.inner.run(jobs)
            task.add(len(jobs))
            return done

    async def close(self) -> None:
        await self.inner.close()
