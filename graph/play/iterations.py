"""The main loop: iterations of play, each followed by the weights that the trainer learned from it, and their evaluation.

Guarantees:
- Each step looks into the log first and does only what is missing, so starting and resuming are one code path.
- An infrastructure failure stops the run and leaves it resumable; a failure of one episode is data (`EpisodeFailed`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from structlog.contextvars import bound_contextvars

from events.facts.errors import Conflict, GaspError, LogError, ModelError, SandboxError
from events.facts.log import Log, read_facts
from events.facts.streams import RUN
from events.facts.types import (
    EpisodeFailed,
    EpisodeFinished,
    IterationFinished,
    IterationStarted,
    RunFinished,
)
from events.facts.values import Question
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
from graph.play.served_weights import ServedWeights
from graph.play.shares import Share, ShareBoard, SharePlayer, cross_share_repeats
from graph.play.state import EpisodeState, fold_episode
from graph.play.trials import TrialRunner
from graph.settings.config import Config
from roles.judging.similarity import Novelty

MAX_NODE_EXECUTIONS = 1000
"""Upper bound on node executions of one episode; settings allow far fewer."""
END_KEY: Final = "end"
"""Key of the append that ends an episode, whether it finished or failed."""


@dataclass
class Play:
    """A run being played."""

    config: Config
    log: Log
    context: NodeContext
    graph: Graph
    scheduler: Scheduler
    evaluator: Evaluator
    weights: ServedWeights
    """What the roles play with."""
    pools: QuestionPools
    """What episodes are sampled from."""
    held_out: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """Question sets that are evaluated besides the goalposts, by name."""
    share_player: SharePlayer | None = None
    """Plays shares where `play.shares` is above 1."""
    _remembered: int = 0
    """Iterations whose accepted questions are in the novelty buffer that shares begin with."""

    def __post_init__(self) -> None:
        self._budget = SampleBudget(self.log, self.config.play)
        sets = {"goalposts": self.pools.goalposts, **self.held_out}
        self.evaluations = RunEvaluations(
            self.log, self.config.evaluate, self.config.play.shares, self.evaluator, self.share_player, self._budget, sets
        )
        """When and how the weights are evaluated."""

    async def run(self) -> None:
        """Play whatever is missing in the log; a GaspError leaves the run resumable."""
        played = sum(1 for _ in read_facts(self.log, IterationFinished, RUN))
        for iteration in itertools.count(played + 1):
            learned = max(0, iteration - 1 - self.config.learn.staleness)
            with bound_contextvars(iteration=learned):
                await self.weights.adopt(learned)
                await self.evaluations.evaluate(learned)
            if not self._budget.is_last(played):
                with bound_contextvars(iteration=iteration):
                    await self._iterate(iteration)
                played = iteration
            # With staleness, the updates of the last iterations are still adopted, one by one.
            elif learned == played:
                break
        self.log.append(RUN, [RunFinished(iterations=played)], key=f"run finished@{self.log.version(RUN)}")

    async def _iterate(self, iteration: int) -> None:
        """Play what the log lacks of an iteration, from its start to its end."""
        episodes = self.episodes(iteration)
        facts = [event.fact for event in self.log.read(RUN, kinds={"iteration_started", "iteration_finished"})]
        resumed = any(isinstance(fact, IterationStarted) and fact.iteration == iteration for fact in facts)
        if not resumed:
            started = IterationStarted(iteration=iteration, policies=self.weights.digests, episodes=len(episodes))
            self.log.append(RUN, [started], key=f"iteration started@{iteration}")
        if any(isinstance(fact, IterationFinished) and fact.iteration == iteration for fact in facts):
            return
        began = time.monotonic()
        if self.share_player is None:
            earlier = self._earlier_calls(episodes) if resumed else []
            await self._play_episodes(f"episodes of iteration {iteration}", episodes, self.context, earlier)
        else:
            await self.share_player.play_all(ShareBoard(self.log, self.iteration_shares(iteration)))
        streams = [episode.stream for episode in episodes]
        if self.context.plan(iteration).trials is not None:
            await self._trial_runner.run(iteration, streams, self.weights.digests["student"], END_KEY)
        record_pool(self.context, self.config, streams, iteration)
        failed = self._finish(iteration, episodes)
        logger().info("iteration_finished", episodes=len(episodes), failed=failed, seconds=seconds_since(began))

    @property
    def _trial_runner(self) -> TrialRunner:
        return TrialRunner(
            log=self.log,
            config=self.config,
            context=self.context,
            models=self.weights.models,
            evaluator=self.evaluator,
            trainer=self.weights.trainer,
            goalposts=self.pools.goalposts,
            load_weights=self.weights.load,
        )

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
