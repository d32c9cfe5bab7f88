"""Asks policies, one after the other, about the questions that none before has solved.

A question stays if no attempt of any policy passes (GASP: pass@100 = 0). Policies answer through the same solver, verifier and
sandbox as in play.

Guarantees: every attempt is in the log, and an evaluation that is there is not repeated.
"""

from __future__ import annotations

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
from graph.setup.assemble import make_evaluator, make_runner, prepare_sandbox
from graph.setup.model_source import PolicyWeights, open_models
from graph.setup.named_policies import Checkpoint, NamedPolicies, load_checkpoint
from roles.model import Model
from roles.prompt import Prompts
from sandbox.runner import Runner

FIRST_ROUND_DIVISOR: Final = 5
"""The first round asks for 1/5 of the attempts; questions that these solve are not asked again."""


@dataclass
class GoalpostFilter:
    """Filters a question set by asking policies, and remembers who was asked."""

    log: Log
    folder: Path
    """The filter's folder, which also gets the output of servers."""
    config: Config
    """`evaluate` says how many attempts a policy gets, and how they are sampled."""
    name: str
    left: list[Question]
    """Questions that no policy has solved yet."""
    rules: Mapping[QuestionId, JudgingRules]
    """Judging rules of questions that have rules of their own."""
    named: list[str] = field(default_factory=list)
    """Names under which policies were asked."""
    results: list[PolicyResult] = field(default_factory=list)
    last: Event | None = None

    async def ask(self, policies: NamedPolicies, on_result: Callable[[PolicyResult], None]) -> None:
        """Ask policies about the questions that are left, each weights once; after a GaspError, what is done is kept."""
        self.named.append(policies.name)
        asked = {result.policy for result in self.results}
        new = [checkpoint for checkpoint in policies.checkpoints if checkpoint.policy not in asked]
        if not new:
            print_note(f"{policies.name}: the same weights as were asked before")
        async with AsyncExitStack() as stack:
            evaluators = _CheckpointEvaluators(self, policies, stack)
            for checkpoint in new:
                if self.left:
                    self.results.append(await self._ask_policy(evaluators, checkpoint))
                    on_result(self.results[-1])

    async def _ask_policy(self, evaluators: _CheckpointEvaluators, checkpoint: Checkpoint) -> PolicyResult:
        asked, streams = [question.id for question in self.left], []
        for settings in _evaluation_rounds(self.config.evaluate):
            name = evaluation_name(self.name, self.left, settings, evaluators.prompts.digest)
            stream = policy_evaluation_stream(name, checkpoint.policy, self.config.seed)
            event = self._finished(stream)
            if event is None:
                what = f"{evaluators.policies.name}, {checkpoint.policy[:SHORT]}"
                with evaluators.activity.task(what), show_activity(evaluators.activity):
                    evaluator = await evaluators.evaluator(checkpoint, settings)
                    await evaluator.evaluate_in(stream, name, self.left, checkpoint.iteration)
                event = self._finished(stream)
            assert event is not None, "the evaluation has just been appended"
            assert isinstance(event.fact, EvaluationFinished), "it is read by this kind"
            solved, self.last = event.fact.successes, event
            self.left = [question for question in self.left if not solved[question.id]]
            streams.append(stream)
            if not self.left:
                break
        left = {question.id for question in self.left}
        return PolicyResult(
            who=evaluators.policies.name,
            policy=checkpoint.policy,
            iteration=checkpoint.iteration,
            streams=tuple(streams),
            asked=len(asked),
            dropped=len(asked) - len(self.left),
            solved=tuple(name for name in asked if name not in left),
        )

    def _finished(self, stream: str) -> Event | None:
        return first_event(self.log, stream, "evaluation_finished")


class _CheckpointEvaluators:
    """Makes an evaluator of each checkpoint of one model, one after the other; model and sandbox are opened with the first."""

    def __init__(self, filtering: GoalpostFilter, policies: NamedPolicies, stack: AsyncExitStack) -> None:
        self.policies = policies
        self.prompts = Prompts.named(filtering.config.prompts)
        self._filtering = filtering
        self._stack = stack
        self.activity = Activity()
        self._opened: tuple[Model, Runner] | None = None
        self._sync_checker = WeightSyncChecker(exact=policies.config.exact)

    async def evaluator(self, checkpoint: Checkpoint, settings: EvaluateSettings) -> Evaluator:
        filtering, name = self._filtering, self.policies.config.policy_of["student"]
        model, runner = self._opened = self._opened or await self._open(name, checkpoint)
        await load_checkpoint(model, name, checkpoint, self._sync_checker)
        config = filtering.config.model_copy(update={"evaluate": settings, "serve": self.policies.config.serve})
        log, weights = filtering.log, checkpoint.weights
        return make_evaluator(log, config, self.prompts, filtering.rules, model, runner, self.activity, weights, in_run=False)

    async def _open(self, name: str, checkpoint: Checkpoint) -> tuple[Model, Runner]:
        folder, config = self._filtering.folder, self.policies.config
        runner = make_runner(config, folder.name)
        self._stack.push_async_callback(runner.close)
        await prepare_sandbox(runner, self.activity)
        weights = PolicyWeights(checkpoint.weights, checkpoint.policy)
        models = await self._stack.enter_async_context(open_models(config, {name: weights}, folder, self.activity))
        return models[name], runner


def _evaluation_rounds(settings: EvaluateSettings) -> list[EvaluateSettings]:
    """The evaluations that together ask for `settings.attempts` attempts a question.

    Their numbers of attempts differ. The number is part of an evaluation's name, so two rounds of one question set have
    different names, and hence different seeds.
    """
    first = settings.attempts // FIRST_ROUND_DIVISOR
    counts = [first, settings.attempts - first] if first else [settings.attempts]
    return [settings.model_copy(update={"attempts": count}) for count in counts]
