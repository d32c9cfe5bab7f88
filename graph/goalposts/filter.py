"""Asks policies, one after the other, about the questions that none before has solved.

A question stays if no attempt of any policy passes (GASP: pass@100 = 0). Policies answer through the same solver, verifier and
sandbox as in play.

Guarantees: every attempt is in the log, and an evaluation that is there is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from events.cli.output import print_note, show_activity
from events.facts.digests import SHORT
from events.facts.log import Event, Log, first_event
from events.facts.streams import policy_evaluation_stream
from events.facts.types import EvaluationFinished
from events.facts.values import JudgingRules, Question, QuestionId
from events.process.activity import Activity
from graph.goalposts.goalpost_provenance import PolicyResult
from graph.play.evaluation import Evaluator, evaluation_name
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config, EvaluateSettings
from graph.setup.assemble import load_prompts, make_evaluator, make_runner
from graph.setup.model_source import PolicyWeights, open_models
from graph.setup.named_policies import Checkpoint, NamedPolicies, serve_checkpoint
from roles.model import Model
from sandbox.runner import Runner

FIRST_ROUND_DIVISOR: Final = 5
"""One of so many answers is asked for first; questions that are solved by then need no others."""


@dataclass
class GoalpostFilter:
    """Questions that are left, and who was asked about them."""

    log: Log
    folder: Path
    """The log's, which also gets what servers say."""
    config: Config
    """Whose `evaluate` says how often and how a policy is asked."""
    name: str
    """Of the question set."""
    left: list[Question]
    rules: Mapping[QuestionId, JudgingRules]
    """Of those that have rules of their own."""
    named: list[str] = field(default_factory=list)
    """Whose policies were to be asked."""
    asked: list[PolicyResult] = field(default_factory=list)
    last: Event | None = None
    """The last event that decided something."""

    async def ask(self, who: NamedPolicies, tell: Callable[[PolicyResult], None]) -> None:
        """Ask policies about what is left, those that were asked already left out.

        Raises:
            GaspError: model or sandbox failed; what is done is kept.
        """
        self.named.append(who.who)
        known = {before.policy for before in self.asked}
        new = [checkpoint for checkpoint in who.checkpoints if checkpoint.policy not in known]
        if not new:
            print_note(f"{who.who}: the same weights as were asked before")
        async with AsyncExitStack() as house:
            seat = _PolicyServer(self, who, house)
            for checkpoint in new:
                if self.left:
                    self.asked.append(await self._one(seat, checkpoint))
                    tell(self.asked[-1])

    async def _one(self, seat: _PolicyServer, checkpoint: Checkpoint) -> PolicyResult:
        count, streams = len(self.left), []
        for settings in _evaluation_rounds(self.config.evaluate):
            name = evaluation_name(self.name, self.left, settings, seat.prompts.digest)
            stream = policy_evaluation_stream(name, checkpoint.policy, self.config.seed)
            event = self._finished(stream)
            if event is None:
                what = f"{seat.who.who}, {checkpoint.policy[:SHORT]}"
                with seat.activity.task(what), show_activity(seat.activity):
                    examines = await seat.examiner(checkpoint, settings)
                    await examines.evaluate_in(stream, name, self.left, checkpoint.iteration)
                event = self._finished(stream)
            assert event is not None, "what was just examined is in the log"
            assert isinstance(event.fact, EvaluationFinished), "it is read by this kind"
            solved, self.last = event.fact.successes, event
            self.left = [question for question in self.left if not solved[question.id]]
            streams.append(stream)
            if not self.left:
                break
        return PolicyResult(
            who=seat.who.who,
            policy=checkpoint.policy,
            iteration=checkpoint.iteration,
            streams=tuple(streams),
            asked=count,
            dropped=count - len(self.left),
        )

    def _finished(self, stream: str) -> Event | None:
        return first_event(self.log, stream, "evaluation_finished")


class _PolicyServer:
    """Where policies of one kind take their turn; model and sandbox are put up once one of them really has to answer."""

    def __init__(self, filtering: GoalpostFilter, who: NamedPolicies, house: AsyncExitStack) -> None:
        self.who = who
        self.prompts = load_prompts(filtering.config)
        self._filtering = filtering
        self._house = house
        self.activity = Activity()
        self._put_up: tuple[Model, Runner] | None = None
        self._proofs = WeightSyncChecker(exact=who.config.exact)

    async def examiner(self, checkpoint: Checkpoint, settings: EvaluateSettings) -> Evaluator:
        filtering, name = self._filtering, self.who.config.policy_of["student"]
        model, runner = self._put_up = self._put_up or await self._made(name, checkpoint)
        await serve_checkpoint(model, name, checkpoint, self._proofs)
        config = filtering.config.model_copy(update={"evaluate": settings, "serve": self.who.config.serve})
        log, weights = filtering.log, checkpoint.weights
        return make_evaluator(log, config, self.prompts, filtering.rules, model, runner, self.activity, weights, in_run=False)

    async def _made(self, name: str, checkpoint: Checkpoint) -> tuple[Model, Runner]:
        folder, config = self._filtering.folder, self.who.config
        runner = make_runner(config, folder.name)
        self._house.push_async_callback(runner.close)
        # A missing engine is said before anything is sampled.
        with self.activity.task("preparing the sandbox"):
            await asyncio.to_thread(lambda: runner.provenance)
        stored = PolicyWeights(checkpoint.weights, checkpoint.policy)
        made = await self._house.enter_async_context(open_models(config, {name: stored}, folder, self.activity))
        return made[name], runner


def _evaluation_rounds(settings: EvaluateSettings) -> list[EvaluateSettings]:
    """The examinations that together ask for as many answers as are set.

    They are never equally long: a name says how many answers an examination asks for, so that two of one question set have
    different names, hence seeds.
    """
    first = settings.attempts // FIRST_ROUND_DIVISOR
    counts = [first, settings.attempts - first] if first else [settings.attempts]
    return [settings.model_copy(update={"attempts": count}) for count in counts]
