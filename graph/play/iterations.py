"""The main loop: iterations of play, each followed by the trainer's update and a weight-sync check.

Guarantees:
- Each step looks into the log first and does only what is missing, so starting and resuming are one code path.
- An infrastructure failure stops the run and leaves it resumable; a failure of one episode is data (`EpisodeFailed`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from structlog.contextvars import bound_contextvars

from events.facts.digests import SHORT
from events.facts.errors import Conflict, GaspError, LogError, ModelError, SandboxError
from events.facts.log import Log, read_facts
from events.facts.streams import RUN, policy_stream
from events.facts.types import (
    EpisodeFailed,
    EpisodeFinished,
    IterationFinished,
    IterationStarted,
    PolicyProbed,
    PolicyServed,
    PolicyUpdated,
    RunFinished,
)
from events.facts.values import Digest, Question, Role
from events.projections.run_summary import OBSERVED_SECONDS
from events.text.logging import logger, seconds_since
from events.text.safe_text import one_line
from events.text.secrets import mask
from graph.play.build import Graph
from graph.play.context import NodeContext, accepted_by_iteration, accepted_in
from graph.play.edges import end_reason, successor
from graph.play.episode_sampling import QuestionPools, SampledEpisode, sample_episodes
from graph.play.evaluation import Evaluator
from graph.play.opening import open_episode
from graph.play.player_log import PlayerLog
from graph.play.pool import record_pool
from graph.play.resumed_calls import EarlierCalls, earlier_calls
from graph.play.run_evaluations import RunEvaluations
from graph.play.sample_budget import SampleBudget
from graph.play.scheduler import Scheduler
from graph.play.shares import Share, ShareBoard, SharePlayer, cross_share_repeats
from graph.play.state import EpisodeState, fold_episode
from graph.play.trainer_process import TrainerProcess
from graph.play.trials import TrialRunner
from graph.play.weight_sync import LogprobDifference, WeightSyncChecker
from graph.settings.config import Config
from roles.judging.similarity import Novelty
from roles.model import Model

MAX_NODE_EXECUTIONS = 1000
"""Upper bound on node executions of one episode; settings allow far fewer."""
END_KEY: Final = "end"
"""Key of the append that ends an episode, whether it finished or failed."""


@dataclass
class Play:
    """A run being played."""

    folder: Path
    config: Config
    log: Log
    context: NodeContext
    graph: Graph
    scheduler: Scheduler
    models: dict[str, Model]
    """By the policy's name."""
    evaluator: Evaluator
    trainer: TrainerProcess
    """A process; met only in the log."""
    pools: QuestionPools
    """What episodes are sampled from."""
    sync_checker: WeightSyncChecker
    held_out: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """Question sets that are evaluated besides the goalposts, by name."""
    policies: dict[Role, Digest] = field(default_factory=dict)
    """Weights that each role plays with."""
    share_player: SharePlayer | None = None
    """Plays shares where `play.shares` is above 1."""
    fetch: Callable[[Digest], None] | None = None
    """Brings weights into the folder, where that is not shared."""
    _remembered: int = 0
    """Iterations whose accepted questions are in the novelty buffer that shares begin with."""

    def __post_init__(self) -> None:
        self._budget = SampleBudget(self.log, self.config.play)
        sets = {"goalposts": self.pools.goalposts, **self.held_out}
        self.evaluations = RunEvaluations(
            self.log, self.config.evaluate, self.config.play.shares, self.evaluator, self.share_player, self._budget, sets
        )
        """When and how its weights are evaluated."""

    async def run(self) -> None:
        """Play whatever is missing in the log; a GaspError leaves the run resumable."""
        played = sum(1 for _ in read_facts(self.log, IterationFinished, RUN))
        for iteration in itertools.count(played + 1):
            learned = max(0, iteration - 1 - self.config.learn.staleness)
            with bound_contextvars(iteration=learned):
                await self._adopt_weights(learned)
            if not self._budget.is_last(played):
                with bound_contextvars(iteration=iteration):
                    await self._iterate(iteration)
                played = iteration
            # With staleness, the updates of the last iterations are still adopted, one by one.
            elif learned == played:
                break
        self.log.append(RUN, [RunFinished(iterations=played)], key=f"run finished@{self.log.version(RUN)}")

    @property
    def _roles_of(self) -> dict[str, list[Role]]:
        """The roles that play with each policy, by its name."""
        roles: dict[str, list[Role]] = {}
        for role, policy in self.config.policy_of.items():
            roles.setdefault(policy, []).append(role)
        return roles

    def _updates(self, policy: str) -> dict[int, Digest]:
        return {fact.iteration: fact.digest for fact in read_facts(self.log, PolicyUpdated, policy_stream(policy))}

    async def _adopt_weights(self, iteration: int) -> None:
        """Wait until the trainer has learned from an iteration, serve the new weights, and evaluate them if it is time."""
        for policy in self._roles_of if iteration else ():
            began = time.monotonic()
            await asyncio.gather(*(model.sleep() for model in self.models.values()))
            digest = await self.trainer.wait_for_update(policy, iteration)
            logger().info("policy_learned", policy=policy, digest=digest, waited=seconds_since(began))
        await self._serve(iteration)
        await self.evaluations.evaluate(iteration)

    async def _iterate(self, iteration: int) -> None:
        episodes = self.episodes(iteration)
        facts = [event.fact for event in self.log.read(RUN, kinds={"iteration_started", "iteration_finished"})]
        resumed = any(isinstance(fact, IterationStarted) and fact.iteration == iteration for fact in facts)
        if not resumed:
            started = IterationStarted(iteration=iteration, policies=self.policies, episodes=len(episodes))
            self.log.append(RUN, [started], key=f"iteration started@{iteration}")
        if not any(isinstance(fact, IterationFinished) and fact.iteration == iteration for fact in facts):
            began = time.monotonic()
            if self.share_player is None:
                earlier = self._earlier_calls(episodes) if resumed else []
                await self._play_episodes(f"episodes of iteration {iteration}", episodes, self.context, earlier)
            else:
                await self.share_player.play_all(ShareBoard(self.log, self.iteration_shares(iteration)))
            streams = [episode.stream for episode in episodes]
            if self.context.plan(iteration).trials is not None:
                trials = TrialRunner(
                    log=self.log,
                    config=self.config,
                    context=self.context,
                    models=self.models,
                    evaluator=self.evaluator,
                    trainer=self.trainer,
                    goalposts=self.pools.goalposts,
                    load_weights=self.load_weights,
                )
                await trials.run(iteration, streams, self.policies["student"], END_KEY)
            record_pool(self.context, self.config, streams, iteration)
            failed = self._finish(iteration, episodes)
            logger().info("iteration_finished", episodes=len(episodes), failed=failed, seconds=seconds_since(began))

    def episodes(self, iteration: int) -> list[SampledEpisode]:
        """The episodes of an iteration."""
        return list(sample_episodes(self.log, self.config, self.context.recipe.plan, self.pools, iteration))

    async def _play_episodes(
        self, what: str, episodes: Sequence[SampledEpisode], context: NodeContext, earlier: Sequence[EarlierCalls]
    ) -> None:
        with self.scheduler.activity.task(what, len(episodes)) as task:

            async def play(episode: SampledEpisode, version: int | None) -> None:
                await self._play_episode(episode, context, version)
                task.add()

            versions: list[int | None] = [calls.version for calls in earlier] or [None] * len(episodes)
            playing = [play(episode, version) for episode, version in zip(episodes, versions, strict=True)]
            await self.scheduler.play(playing, earlier)

    def iteration_shares(self, iteration: int) -> list[Share]:
        """The shares of an iteration: an episode belongs to the share of its number modulo `play.shares`."""
        episodes, count = self.episodes(iteration), self.config.play.shares
        return [
            Share(
                f"share {number} of iteration {iteration}",
                {episode.stream: 1 for episode in own},
                partial(self._play_share, number, iteration, own),
                partial(self._give_up, own),
            )
            for number in range(count)
            if (own := episodes[number::count])
        ]

    async def _play_share(self, number: int, iteration: int, episodes: Sequence[SampledEpisode]) -> None:
        context = replace(self.context, novelty=self._share_novelty(iteration, episodes))
        what = f"episodes of share {number} of iteration {iteration}"
        await self._play_episodes(what, episodes, context, self._earlier_calls(episodes))

    def _share_novelty(self, iteration: int, episodes: Sequence[SampledEpisode]) -> Novelty:
        """What a share's proposals are compared with: all that earlier iterations accepted, and what the share has."""
        # Each iteration's questions at once and each own one alone, whenever a player joined, since batches affect rounding.
        for earlier, questions in accepted_by_iteration(self.log, iteration - 1).items():
            if earlier > self._remembered:
                self.context.novelty.add(*questions)
                self._remembered = earlier
        novelty = self.context.novelty.copy()
        for question in accepted_in(self.log, [episode.stream for episode in episodes]):
            novelty.add(question)
        return novelty

    def _give_up(self, episodes: Sequence[SampledEpisode]) -> None:
        """Record that the open episodes of a share failed, because their players died."""
        message = "Every player of its share died, several in a row; see run.log and the machines' kernel logs."
        failed = EpisodeFailed(error="PlayerLost", message=message)
        for episode in episodes:
            version = self.log.version(episode.stream)
            if version == 0:
                version = len(open_episode(self.context, episode))
            state = fold_episode(EpisodeState(stream=episode.stream), self.log.read(episode.stream))
            if not state.ended:
                self.log.append(episode.stream, [failed], expected=version, key=END_KEY)

    def _earlier_calls(self, episodes: Sequence[SampledEpisode]) -> list[EarlierCalls]:
        """The calls that an interrupted iteration has made already."""
        solver, teacher = self.context.solver, self.context.teacher
        return earlier_calls(
            self.log,
            [episode.stream for episode in episodes],
            system=solver.prompts.system,
            teacher=teacher.model,
            student=solver.model,
            exact=self.config.repeatable,
            is_over=self._is_played,
        )

    def _is_played(self, episode: EpisodeState) -> bool:
        """Whether an episode has ended, or ends only with the trials of its iteration."""
        plan = self.context.recipe.plan
        waits = plan.at(episode.iteration).trials is not None and episode.version > 0
        return episode.ended or (waits and successor(episode, self.config.play, plan) == "__end__")

    def _finish(self, iteration: int, episodes: Sequence[SampledEpisode]) -> int:
        """Record the end of an iteration, and return how many episodes failed; GaspError if all episodes of one purpose did."""
        failed: dict[str, list[EpisodeFailed]] = {}
        for episode in episodes:
            failed.setdefault(episode.fact.purpose, []).extend(read_facts(self.log, EpisodeFailed, episode.stream))
        count = sum(map(len, failed.values()))
        streams = [episode.stream for episode in episodes]
        repeats = 0 if self.share_player is None else cross_share_repeats(self.context, streams, self.config.play.shares)
        finished = IterationFinished(
            iteration=iteration, finished=len(episodes) - count, failed=count, cross_share_repeats=repeats
        )
        seconds = {OBSERVED_SECONDS: self.scheduler.activity.lap()}
        self.log.append(RUN, [finished], key=f"iteration finished@{iteration}", observed=seconds)
        for purpose, failures in failed.items():
            if len(failures) == sum(episode.fact.purpose == purpose for episode in episodes):
                raise GaspError(
                    f"Every {purpose} episode of iteration {iteration} failed, the first with {failures[0].error}: "
                    f"{failures[0].message}; find the cause, then go on with the next iteration by --resume."
                )
        return count

    async def _play_episode(self, sampled: SampledEpisode, context: NodeContext, version: int | None) -> None:
        """Play one episode from wherever the log says it is. Only here an error becomes data.

        `version` is that of its stream when its earlier calls were read; None where they do not matter.
        """
        stream = sampled.stream
        episode = fold_episode(EpisodeState(stream=stream), self.log.read(stream))
        began = episode.version
        if self.share_player is not None and version is not None and began > version:
            # Its next call would be in another batch than the calls of the others that it was together with.
            raise Conflict(f"Another player goes on with {stream}; leave the share to it.")
        try:
            if episode.version == 0:
                episode = fold_episode(episode, open_episode(context, sampled))
            if self._is_played(episode):
                return
            final = await self.graph.ainvoke({"episode": episode}, {"recursion_limit": MAX_NODE_EXECUTIONS}, context=context)
            episode = final["episode"]
            if self._is_played(episode):
                return
            reason = end_reason(episode, self.config.play.solved_at, context.recipe.plan)
            self.log.append(stream, [EpisodeFinished(reason=reason)], expected=episode.version, key=END_KEY)
        except (LogError, SandboxError, ModelError):
            raise
        except Exception as error:
            # The event has the error's message only; the traceback is for the operator and goes to run.log.
            logger().exception("episode_failed", episode=stream)
            failed = EpisodeFailed(error=type(error).__name__, message=one_line(mask(str(error)), 500))
            expected = self.log.own_version(stream, began) if isinstance(self.log, PlayerLog) else None
            self.log.append(stream, [failed], expected=expected, key=END_KEY)

    async def _serve(self, iteration: int) -> None:
        """Serve the weights that exist after an iteration, check that they are in use, and record that."""
        probes: dict[str, PolicyProbed] = {}
        for policy, roles in self._roles_of.items():
            digest = self._updates(policy).get(iteration, before := self.policies[roles[0]])
            self.policies |= dict.fromkeys(roles, digest)
            if digest != before or self.sync_checker.checked(policy) != digest:  # A promoted student may be loaded already.
                probes[policy] = await self.trainer.wait_for_probe(policy, digest)
        # Not before all are known, so that the order of events does not depend on timing.
        for policy, probe in probes.items():
            await self._sync_weights(policy, probe)

    async def _sync_weights(self, policy: str, probe: PolicyProbed) -> None:
        digest, gap = probe.digest, await self.load_weights(policy, probe)
        served = list(read_facts(self.log, PolicyServed, RUN))
        last = {fact.role: fact.policy for fact in served}
        numbers = {"difference": round(gap.largest, 6), "mean_difference": round(gap.mean, 6)}
        roles = [role for role in self._roles_of[policy] if last.get(role) != digest]
        facts = [PolicyServed(role=role, policy=digest, **numbers) for role in roles]
        if facts:
            self.log.append(RUN, facts, key=f"{policy} served@{len(served)}")

    async def load_weights(self, policy: str, probe: PolicyProbed) -> LogprobDifference:
        """Let the model of a policy serve the weights of a probe, and compare its logprobs; ModelError if they differ."""
        model, digest = self.models[policy], probe.digest
        began = time.monotonic()
        with self.scheduler.activity.task(f"syncing the weights {digest[:SHORT]}", phase="weights"):
            if self.fetch is not None:
                await asyncio.to_thread(self.fetch, digest)
            if model.policy != digest:
                await model.load_weights(self.folder / "weights" / digest, digest)
            gap = await self.sync_checker.check(policy, model, probe)
        logger().info(
            "weights_served", policy=policy, digest=digest, seconds=seconds_since(began), difference=gap.largest, mean=gap.mean
        )
        return gap
