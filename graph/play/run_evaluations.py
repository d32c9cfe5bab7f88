"""The evaluations within a run: when they are due, of which question sets, by one player or in shares."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from events.facts.log import Log, first_fact
from events.facts.streams import evaluation_share_stream, evaluation_stream
from events.facts.types import EvaluationFinished
from events.facts.values import Question
from events.text.logging import logger, seconds_since
from graph.play.evaluation import Evaluator
from graph.play.sample_budget import SampleBudget
from graph.play.shares import Share, ShareBoard, SharePlayer
from graph.settings.config import EvaluateSettings


@dataclass(frozen=True)
class RunEvaluations:
    """Evaluates the student of a run at the start, at the end, and between as often as the settings say."""

    log: Log
    settings: EvaluateSettings
    shares: int
    """Parts that an evaluation is divided into, as `play.shares` says."""
    evaluator: Evaluator
    share_player: SharePlayer | None
    """Plays shares where there are several."""
    budget: SampleBudget
    sets: Mapping[str, Sequence[Question]]
    """Question sets by name."""

    async def evaluate(self, iteration: int) -> None:
        """Append the evaluations after an iteration that are due and not in the log."""
        if not self.is_due(iteration):
            return
        if self.share_player is not None:
            await self.share_player.play_all(ShareBoard(self.log, self.open_shares(iteration)))
        for name, questions in self._evaluated_sets().items():
            began = time.monotonic()
            if self.share_player is None:
                await self.evaluator.evaluate(name, questions, iteration)
            else:
                await self._merge(name, questions, iteration)
            logger().info("evaluated", set=name, iteration=iteration, seconds=seconds_since(began))

    def _evaluated_sets(self) -> dict[str, Sequence[Question]]:
        return {name: questions[: self.settings.questions] for name, questions in self.sets.items() if questions}

    def open_shares(self, iteration: int) -> list[Share]:
        """The shares of the evaluations after an iteration, those left out that are finished."""
        shares = []
        for name, questions in self._evaluated_sets().items():
            evaluation = evaluation_stream(name, iteration)
            if first_fact(self.log, evaluation, EvaluationFinished) is not None:
                continue
            for number in range(self.shares):
                if own := questions[number :: self.shares]:
                    stream = evaluation_share_stream(evaluation, number)
                    play = partial(self._evaluate_share, stream, name, own, evaluation)
                    shares.append(Share(f"share {number} of {evaluation}", {stream: len(own)}, play))
        return shares

    async def _evaluate_share(self, stream: str, name: str, questions: Sequence[Question], evaluation: str) -> None:
        await self.evaluator.ask(stream, name, questions, evaluation)

    async def _merge(self, name: str, questions: Sequence[Question], iteration: int) -> None:
        """Append the result of an evaluation whose shares have ended, unless the log has it."""
        stream = evaluation_stream(name, iteration)
        shares = [evaluation_share_stream(stream, number) for number in range(self.shares)]
        finished = first_fact(self.log, stream, EvaluationFinished)
        if finished is None:
            successes = {question: count for share in shares for question, count in self.evaluator.successes(share).items()}
            finished = self.evaluator.finish(stream, name, questions, iteration, successes)
        await self.evaluator.calibrate(stream, finished, shares)

    def is_due(self, iteration: int) -> bool:
        """Whether the weights after an iteration are evaluated."""
        if self.budget.is_last(iteration):
            return True
        if iteration == 0:
            return self.settings.first
        if self.settings.every and iteration % self.settings.every == 0:
            return True
        samples = self.settings.every_samples
        return samples > 0 and self.budget.spent(iteration) // samples > self.budget.spent(iteration - 1) // samples
