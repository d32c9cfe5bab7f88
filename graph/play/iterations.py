"""The only loop on this side: iterations of play, each followed by the trainer's update and its proof of service.

Law: every step looks into the log first and does only what is missing there, so that starting, resuming and finishing are one
code path. Infrastructure failures stop the run and leave it resumable; a failure of one episode is data.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from structlog.contextvars import bound_contextvars

from events.facts.digests import SHORT
from events.facts.errors import GaspError, LogError, ModelError, SandboxError
from events.facts.log import Log
from events.facts.streams import RUN, policy_stream
from events.facts.types import (
    EpisodeFailed,
    EpisodeFinished,
    IterationFinished,
    IterationStarted,
    PolicyProbed,
    PolicyServed,
    PolicyUpdated,
    ReferencesDrawn,
    RunFinished,
)
from events.facts.values import Digest, Question, Role
from events.projections.run_summary import CompletionCount
from events.text.logging import logger, seconds_since
from events.text.safe_text import one_line
from events.text.secrets import mask
from graph.play.build import Graph
from graph.play.context import NodeContext
from graph.play.edges import end_reason
from graph.play.episode_sampling import QuestionPools, SampledEpisode, openings
from graph.play.evaluation import Evaluator
from graph.play.resumed_calls import EarlierCalls, earlier_calls
from graph.play.scheduler import Scheduler
from graph.play.state import EpisodeState, fold_episode
from graph.play.trainer_process import TrainerProcess
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from roles.model import Model

MAX_NODE_EXECUTIONS = 1000
"""Most node visits of one episode; settings allow far fewer."""


@dataclass
class Play:
    """A run being played."""

    folder: Path
    config: Config
    log: Log
    table: NodeContext
    graph: Graph
    pace: Scheduler
    models: dict[str, Model]
    """By the policy's name."""
    examiner: Evaluator
    learner: TrainerProcess
    goalposts: Sequence[Question]
    practice: Sequence[Question]
    test: Sequence[Question]
    proofs: WeightSyncChecker
    policies: dict[Role, Digest] = field(default_factory=dict)
    seeds: Sequence[Question] = ()
    """References of the first unguided episodes."""
    validation: Sequence[Question] = ()
    samples: CompletionCount = field(default_factory=CompletionCount)
    """The student's, as far as the log was read."""

    async def run(self) -> None:
        """Play what the log says is still to be played.

        Raises:
            GaspError: infrastructure failed; the run can be resumed.
        """
        played = sum(1 for _ in self.log.read(RUN, kinds={"iteration_finished"}))
        for iteration in itertools.count(played + 1):
            learned = max(0, iteration - 1 - self.config.learn.staleness)
            with bound_contextvars(iteration=learned):
                await self._take_up(learned)
            if not self._is_last(played):
                with bound_contextvars(iteration=iteration):
                    await self._iterate(iteration)
                played = iteration
            elif learned == played:
                break
        self.log.append(RUN, [RunFinished(iterations=played)])

    def _samples(self, iteration: int) -> int:
        """Completions of the student up to the end of an iteration that was played."""
        for event in self.log.read(after=self.samples.position, kinds=CompletionCount.KINDS):
            self.samples.apply(event)
        return self.samples.after[iteration]

    def _is_last(self, iteration: int) -> bool:
        """Whether no iteration is played after this one, which was."""
        play = self.config.play
        return iteration >= play.iterations or 0 < play.samples <= self._samples(iteration)

    @property
    def _seats(self) -> dict[str, list[Role]]:
        """The roles that play with each policy, by its name."""
        found: dict[str, list[Role]] = {}
        for role, policy in self.config.policy_of.items():
            found.setdefault(policy, []).append(role)
        return found

    def _updates(self, policy: str) -> dict[int, Digest]:
        events = self.log.read(policy_stream(policy))
        return {event.fact.iteration: event.fact.digest for event in events if isinstance(event.fact, PolicyUpdated)}

    async def _take_up(self, iteration: int) -> None:
        """Wait until an iteration is learned, go on with the weights after it, and examine them if it is time."""
        for policy in self._seats if iteration else ():
            began = time.monotonic()
            await asyncio.gather(*(model.sleep() for model in self.models.values()))
            digest = await self.learner.updated(policy, iteration)
            logger().info("policy_learned", policy=policy, digest=digest, waited=seconds_since(began))
        await self._serve(iteration)
        await self._examine(iteration)

    async def _iterate(self, iteration: int) -> None:
        openings = list(self._openings(iteration))
        said = list(self.log.read(RUN, kinds={"iteration_started", "iteration_finished"}))
        facts = [event.fact for event in said]
        begun = any(isinstance(fact, IterationStarted) and fact.iteration == iteration for fact in facts)
        if not begun:
            started = IterationStarted(iteration=iteration, policies=self.policies, episodes=len(openings))
            self.log.append(RUN, [started])
        if not any(isinstance(fact, IterationFinished) and fact.iteration == iteration for fact in facts):
            began = time.monotonic()
            past = self._past(openings) if begun else []
            with self.pace.activity.task(f"episodes of iteration {iteration}", len(openings)) as task:

                async def walk(opening: SampledEpisode) -> None:
                    await self._walk(opening)
                    task.add()

                await self.pace.play([walk(opening) for opening in openings], past)
            failed = self._finish(iteration, openings)
            logger().info("iteration_finished", episodes=len(openings), failed=failed, seconds=seconds_since(began))

    def _past(self, openings: Sequence[SampledEpisode]) -> list[EarlierCalls]:
        """What an iteration that was broken off has asked already."""
        solver, teacher = self.table.solver, self.table.teacher
        return earlier_calls(
            self.log,
            [opening.stream for opening in openings],
            system=solver.prompts.system,
            teacher=teacher.model,
            student=solver.model,
            exact=self.config.repeatable,
        )

    def _finish(self, iteration: int, openings: Sequence[SampledEpisode]) -> int:
        """Record the end of an iteration; how many of its episodes failed."""
        failed: dict[str, list[EpisodeFailed]] = {}
        for opening in openings:
            ends = [event.fact for event in self.log.read(opening.stream, kinds={"episode_failed"})]
            failed.setdefault(opening.fact.purpose, []).extend(fact for fact in ends if isinstance(fact, EpisodeFailed))
        count = sum(map(len, failed.values()))
        self.log.append(RUN, [IterationFinished(iteration=iteration, finished=len(openings) - count, failed=count)])
        for purpose, broken in failed.items():
            if len(broken) == sum(opening.fact.purpose == purpose for opening in openings):
                raise GaspError(
                    f"Every {purpose} episode of iteration {iteration} failed, the first with {broken[0].error}: "
                    f"{broken[0].message}; find the cause, then go on with the next iteration by --resume"
                )
        return count

    def _openings(self, iteration: int) -> Iterator[SampledEpisode]:
        course, pools = self.table.recipe.course, QuestionPools(self.goalposts, self.practice, self.seeds)
        return openings(self.log, self.config, course, pools, iteration)

    async def _walk(self, opening: SampledEpisode) -> None:
        """One episode, from wherever the log says it is. This is the one place where an error becomes data."""
        stream = opening.stream
        episode = fold_episode(EpisodeState(stream=stream), self.log.read(stream))
        try:
            if episode.version == 0:
                drawn = [ReferencesDrawn(references=opening.references)] if opening.references else []
                episode = fold_episode(episode, self.log.append(stream, [opening.fact, *drawn], expected=0))
            if episode.ended:
                return
            final = await self.graph.ainvoke({"episode": episode}, {"recursion_limit": MAX_NODE_EXECUTIONS}, context=self.table)
            episode = final["episode"]
            reason = end_reason(episode, self.config.play.solved_at, self.table.recipe.course)
            self.log.append(stream, [EpisodeFinished(reason=reason)], expected=episode.version)
        except (LogError, SandboxError, ModelError):
            raise
        except Exception as error:
            # The event names the error; where it came from is for whoever operates the run.
            logger().exception("episode_failed", episode=stream)
            failed = EpisodeFailed(error=type(error).__name__, message=one_line(mask(str(error)), 500))
            self.log.append(stream, [failed])

    async def _serve(self, iteration: int) -> None:
        """Serve the weights that exist after an iteration, prove it, and record the proof."""
        probes: dict[str, PolicyProbed] = {}
        for policy, roles in self._seats.items():
            digest = self._updates(policy).get(iteration, self.policies[roles[0]])
            self.policies |= dict.fromkeys(roles, digest)
            if self.proofs.proved(policy) != digest:
                probes[policy] = await self.learner.probed(policy, digest)
        # Once all are there, so that the order of events does not depend on timing.
        for policy, probe in probes.items():
            await self._deliver(policy, probe)

    async def _deliver(self, policy: str, probe: PolicyProbed) -> None:
        model, digest = self.models[policy], probe.digest
        began = time.monotonic()
        with self.pace.activity.task(f"delivering the weights {digest[:SHORT]}"):
            if model.policy != digest:
                await model.load_weights(self.folder / "weights" / digest, digest)
            far = await self.proofs.prove(policy, model, probe)
        logger().info(
            "weights_served", policy=policy, digest=digest, seconds=seconds_since(began), difference=far.largest, mean=far.mean
        )
        served = [event.fact for event in self.log.read(RUN, kinds={"policy_served"})]
        last = {fact.role: fact.policy for fact in served if isinstance(fact, PolicyServed)}
        numbers = {"difference": round(far.largest, 6), "mean_difference": round(far.mean, 6)}
        facts = [PolicyServed(role=role, policy=digest, **numbers) for role in self._seats[policy] if last.get(role) != digest]
        if facts:
            self.log.append(RUN, facts)

    async def _examine(self, iteration: int) -> None:
        """Examine the student at the start, at the end, and as often between as is set."""
        if not self._is_due(iteration):
            return
        for name, questions in (("goalposts", self.goalposts), ("validation", self.validation), ("test", self.test)):
            if questions:
                began = time.monotonic()
                await self.examiner.examine(name, questions[: self.config.evaluate.questions], iteration)
                logger().info("examined", set=name, iteration=iteration, seconds=seconds_since(began))

    def _is_due(self, iteration: int) -> bool:
        how = self.config.evaluate
        if self._is_last(iteration):
            return True
        if iteration == 0:
            return how.first
        if how.every and iteration % how.every == 0:
            return True
        samples = how.every_samples
        return samples > 0 and self._samples(iteration) // samples > self._samples(iteration - 1) // samples
