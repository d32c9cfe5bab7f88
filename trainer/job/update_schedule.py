"""Update schedule: which iterations a policy learns next, from the run's own log or from recorded runs.

Guarantees: rollouts that are older than `learn.staleness` allows are an error; with `verify`, so are rollouts or weights that
differ from those of a recorded update. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError

from events.facts.errors import ReplayDiverged, TrainerError
from events.facts.log import Event, Log
from events.facts.types import PolicyUpdated, RunStarted
from events.projections.lineage import POLICY_ROLES, PolicyName
from events.text.validation import first_problem
from graph.recipes.recipe import Recipe
from graph.settings.config import Config
from trainer.data import replay
from trainer.data.replay import Cursor, IterationRollouts
from trainer.data.step_batches import StepBatch, step_batches, trial_batches


@dataclass(frozen=True)
class TrainingSource:
    """A log to learn from."""

    log: Log
    until: int | None = None
    """Last position that counts; None: all."""
    recredit: Recipe | None = None
    """The recipe whose rewards replace the recorded ones."""


class UpdateSchedule:
    """The iterations that each policy of a run has to learn."""

    def __init__(
        self,
        log: Log,
        start: RunStarted,
        *,
        until: int | None = None,
        sources: Sequence[TrainingSource] = (),
        verify: bool = False,
    ) -> None:
        """Read the settings of the run from its first fact, `start`; `log` is its own, and holds the updates made so far.

        `sources` are the logs that `start` names; without any, the run's own log is learned, up to the position `until`.
        With `verify`, updates have to be those that the sources recorded.

        Raises:
            TrainerError: the settings are of another version.
        """
        try:
            self.config = Config.recorded(start.config)
        except ValidationError as error:
            setting, problem = first_problem(error)
            message = f"The run's setting {setting} does not fit this version ({problem}); train it with its own version."
            raise TrainerError(message) from error
        self.start = start
        self.policies: tuple[PolicyName, ...] = ("shared",) if self.config.policies == "shared" else ("teacher", "student")
        self._log = log
        self._sources = dict(enumerate(sources, 1)) or {0: TrainingSource(log, until)}
        self._verify = verify

    def cursor(self, name: PolicyName) -> Cursor:
        """How far a policy has learned."""
        return replay.policy_cursor(self._log, name, self.start)

    def next(self, cursor: Cursor) -> tuple[Cursor, Event] | None:
        """The event that ends the next iteration or starts a trial, with the cursor moved to its log; None if none waits."""
        for number, source in self._sources.items():
            if number >= cursor.source:
                moved = cursor if number == cursor.source else replace(cursor, source=number, until=0)
                # Trials are made where they were played; elsewhere the promoted ones alone are learned.
                tries = number == 0 and "student" in POLICY_ROLES[cursor.name]
                after = max(moved.until, moved.tried) if tries else moved.until
                end = replay.next_finished_iteration(source.log, after, source.until, trials=tries)
                if end is not None:
                    return moved, end
        return None

    def is_over(self, cursor: Cursor) -> bool:
        """Whether no more iterations will be played; finished ones may still wait to be learned."""
        source = self._sources.get(0)
        if source is None:
            return True
        reached = source.until is not None and self._log.head().position >= source.until
        return reached or replay.is_run_over(self._log, cursor.until)

    def rollouts(self, cursor: Cursor, end: Event) -> IterationRollouts:
        """What the policy has to learn next.

        Raises:
            TrainerError: the rollouts cannot be learned from, or come from older weights than the run allows.
            ReplayDiverged: they are not those that the recorded update consumed.
        """
        source = self._sources[cursor.source]
        iteration = replay.iteration_rollouts(source.log, cursor, end, source.recredit)
        if cursor.source == 0:
            self._check_age(cursor, iteration)
        self.check("samples", cursor, end, iteration.digest)
        return iteration

    def step_batches(self, cursor: Cursor, iteration: IterationRollouts) -> list[StepBatch]:
        """The optimizer steps of a policy on an iteration, one batch a step."""
        algorithm, learn, trial = self.config.algorithm(), self.config.learn, iteration.trial
        if trial is not None and "student" in POLICY_ROLES[cursor.name]:
            most = self.config.trials.questions_per_step
            return trial_batches(iteration.groups, algorithm, learn, most, trial.steps, iteration.iteration)
        return step_batches(iteration.groups, algorithm, learn, POLICY_ROLES[cursor.name], iteration.iteration)

    def check(self, what: Literal["samples", "weights"], cursor: Cursor, end: Event, digest: str) -> None:
        """Compare a digest with that of the recorded update, if there is one and the job verifies.

        Raises:
            ReplayDiverged: they differ.
        """
        if not self._verify:
            return
        for event in self._sources[cursor.source].log.read(cursor.stream, after=end.position, kinds=("policy_updated",)):
            fact = event.fact
            if isinstance(fact, PolicyUpdated) and fact.until == end.position:
                expected = fact.samples if what == "samples" else fact.digest
                if digest != expected:
                    raise ReplayDiverged(what, position=event.position, expected=expected, found=digest)
                return

    def _check_age(self, cursor: Cursor, iteration: IterationRollouts) -> None:
        newest = replay.policy_digests(self._log, cursor.name, self.start)[-1 - self.config.learn.staleness :]
        for role in POLICY_ROLES[cursor.name]:
            digest = iteration.policies.get(role)
            if digest is not None and digest not in newest:
                raise TrainerError(
                    f"Iteration {iteration.iteration} plays its {role} with {digest}, which is not among the newest"
                    f" {len(newest)} weights of {cursor.name} (now {cursor.digest}); play with those, or raise learn.staleness."
                )
