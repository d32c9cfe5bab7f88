"""Trials: the trainer trains a student on each set of an iteration's questions, and play examines it on goalposts.

Guarantees:
- Trials are made one after the other, each step only if the log does not have it, so that equal runs have equal logs, resumed
  or not. Play and trainer meet in the log alone.
- Students in trials are served for their evaluation only. Without a promotion no weights change, so that nothing is reset.

Not responsible for: training (`trainer`), or loading the policy's weights again (the main loop does, as after updates).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median_low

from events.facts.errors import GaspError
from events.facts.fact import Fact
from events.facts.log import Log, first_event, first_fact, read_facts
from events.facts.streams import RUN, trial_stream
from events.facts.trial_facts import StudentPromoted, TrialExamined, TrialLearned, TrialStarted
from events.facts.types import EpisodeFailed, EpisodeFinished, PolicyProbed, RewardGiven
from events.facts.values import Digest, Question, Sampling
from graph.play.context import NodeContext
from graph.play.edges import end_reason
from graph.play.evaluation import Evaluator
from graph.play.state import EpisodeState, fold_episode
from graph.play.trainer_process import TrainerProcess
from graph.play.verification import teacher_reward
from graph.play.weight_sync import LogprobDifference
from graph.settings.config import Config
from graph.settings.seeds import seeded_rng
from roles.model import Model

EXAM = "goalposts of trials"
"""What evaluations of trials are called where progress is shown."""


@dataclass(frozen=True)
class TrialRunner:
    """Makes the trials of an iteration, rewards its episodes, and decides on a promotion."""

    log: Log
    config: Config
    context: NodeContext
    models: Mapping[str, Model]
    """By the policy's name."""
    evaluator: Evaluator
    trainer: TrainerProcess
    goalposts: Sequence[Question]
    load_weights: Callable[[str, PolicyProbed], Awaitable[LogprobDifference]]
    """Lets the model of a policy serve the weights of a probe."""

    async def run(self, iteration: int, streams: Sequence[str], policy: Digest, end_key: str) -> None:
        """Do what the log does not have yet of the trials of an iteration, whose student plays with the weights `policy`.

        `streams` are those of its episodes, which end here, by an append of this key.

        Raises:
            GaspError: there is no set that could be tried.
        """
        episodes = [self._fold(stream) for stream in streams]
        sets = sorted({episode.set for episode in episodes if self._teaches(episode.stream)})
        if not sets:
            raise GaspError(
                f"No proposal of iteration {iteration} can be asked, so that there is nothing to try on the student; see why in"
                " `gasp trace`, and take another model or other prompts, or raise play.max_attempts."
            )
        count = self.config.trials.students
        if first_fact(self.log, trial_stream(iteration, sets[-1], count), TrialExamined) is None:
            before = await self._passed(iteration, trial_stream(iteration, 0, 0))
            for number in sets:
                for student in range(1, count + 1):
                    await self._try(iteration, number, student, policy, before)
        examined = self._examined(iteration)
        self._promote(iteration, examined, policy)
        for episode in episodes:
            if not episode.ended:
                self._finish(episode, examined, end_key)

    def _fold(self, stream: str) -> EpisodeState:
        return fold_episode(EpisodeState(stream=stream), self.log.read(stream))

    def _teaches(self, stream: str) -> bool:
        """Whether the student has answers in an episode that it can learn from."""
        answered = any(fact.role == "student" for fact in read_facts(self.log, RewardGiven, stream))
        return answered and first_fact(self.log, stream, EpisodeFailed) is None

    async def _try(self, iteration: int, number: int, student: int, policy: Digest, before: int) -> None:
        """Make one trial."""
        stream = trial_stream(iteration, number, student)
        if first_fact(self.log, stream, TrialExamined) is not None:
            return
        settings = self.config.trials
        promoted = first_fact(self.log, RUN, StudentPromoted) is not None
        started = TrialStarted(
            iteration=iteration,
            set=number,
            student=student,
            students=settings.students,
            policy=policy,
            steps=settings.later_steps if promoted else settings.steps,
        )
        begin = first_event(self.log, stream, "trial_started")
        position = (begin or self.log.append(stream, [started], expected=0)[0]).position
        learned, after = await self._learn(position), before
        if learned.digest != policy:
            name = self.config.policy_of["student"]
            await self.load_weights(name, await self.trainer.wait_for_probe(name, learned.digest))
            after = await self._passed(iteration, stream)
        examined = TrialExamined(
            iteration=iteration,
            set=number,
            student=student,
            policy=learned.digest,
            questions=settings.questions,
            before=before,
            after=after,
        )
        self.log.append(stream, [examined], key="examined")

    async def _learn(self, position: int) -> TrialLearned:
        await asyncio.gather(*(model.sleep() for model in self.models.values()))
        return await self.trainer.wait_for_trial(self.config.policy_of["student"], position)

    async def _passed(self, iteration: int, stream: str) -> int:
        """How many of the iteration's goalposts the served weights pass greedily; their answers go to a stream."""
        pool, count = list(self.goalposts), self.config.trials.questions
        questions = seeded_rng(self.config.seed, "trials", iteration).sample(pool, count)
        sampling = Sampling(temperature=0, max_tokens=self.config.play.student.max_tokens)
        settings = self.evaluator.settings.model_copy(update={"attempts": 1, "sampling": sampling})
        passed = await replace(self.evaluator, settings=settings).ask(stream, EXAM, questions)
        return sum(passed.values())

    def _examined(self, iteration: int) -> list[TrialExamined]:
        return [fact for fact in read_facts(self.log, TrialExamined) if fact.iteration == iteration]

    def _promote(self, iteration: int, examined: Sequence[TrialExamined], policy: Digest) -> None:
        """Append the promotion, if the mean gain of the last iterations asks for one."""
        promotions = [fact.iteration for fact in read_facts(self.log, StudentPromoted, RUN)]
        settings = self.config.trials
        window = range(max([0, *promotions, iteration - settings.window]) + 1, iteration + 1)
        if len(window) < settings.window or iteration in promotions:
            return
        gains: dict[int, list[float]] = {number: [] for number in window}
        for fact in read_facts(self.log, TrialExamined):
            if fact.iteration in gains:
                gains[fact.iteration].append(fact.gain)
        gain = fmean(map(fmean, gains.values()))
        best = max(sorted({fact.set for fact in examined}), key=lambda number: gain_of_set(examined, number))
        tried = [fact for fact in examined if fact.set == best]
        median = median_low(fact.after for fact in tried)
        winner = next(fact for fact in tried if fact.after == median)
        # A student that learned nothing is the policy already.
        if gain > settings.threshold and winner.policy != policy:
            chosen = {"set": winner.set, "student": winner.student, "policy": winner.policy}
            promoted = StudentPromoted(iteration=iteration, gain=round(gain, 9), window=len(window), **chosen)
            self.log.append(RUN, [promoted], key=f"promoted@{iteration}")

    def _finish(self, episode: EpisodeState, examined: Sequence[TrialExamined], end_key: str) -> None:
        """End an episode; where the plan says so, its accepted proposal earns what its set gained."""
        plan = self.context.plan(episode.iteration)
        facts: list[Fact] = []
        if plan.trials and plan.trials.reward_gain and episode.accepted:
            gain = gain_of_set(examined, episode.set)
            facts.append(teacher_reward(self.context, episode, episode.accepted[-1].seat, episode.proposed, round(gain, 9)))
        reason = end_reason(episode, self.config.play.solved_at, self.context.recipe.plan)
        facts.append(EpisodeFinished(reason=reason))
        self.log.append(episode.stream, facts, expected=episode.version, key=end_key)


def gain_of_set(examined: Sequence[TrialExamined], number: int) -> float:
    """The mean gain of the students that were tried on a set."""
    return fmean(fact.gain for fact in examined if fact.set == number)
