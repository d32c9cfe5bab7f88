"""The training loop: one update for each finished iteration, from rollouts through optimizer steps to weights and one append.

Guarantees: appending `PolicyUpdated` is the commit point. A crash before it loses only work, after it the cursor has passed
the iteration, so that nothing is trained twice or skipped. A second trainer on the same run fails at its append.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from structlog.contextvars import bound_contextvars

from events.facts.errors import Conflict, TrainerError
from events.facts.fact import Fact
from events.facts.log import Event, Log, read_facts
from events.facts.streams import RUN
from events.facts.trial_facts import TrialLearned, TrialStarted
from events.facts.types import IterationFinished, PolicyProbed, PolicyUpdated, RunFinished
from events.facts.values import Digest, OptimizerStep
from events.facts.weight_facts import WeightsPruned
from events.facts.weights import optimizer_digest
from events.process.activity import Activity, ActivityTask
from events.projections.lineage import POLICY_ROLES
from events.text.logging import logger
from graph.estimate.memory import batch_tokens
from graph.settings.threads import weight_count
from trainer.data import replay
from trainer.data.replay import Cursor, IterationRollouts
from trainer.data.step_batches import StepBatch, advantage_estimator
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn import checkpoint, prune
from trainer.learn.logprob_mismatch import check_mismatch
from trainer.learn.policies import PolicyStore, TrainablePolicy
from trainer.learn.step import describe_step, evaluate_loss, take_step
from trainer.parallel.distributed import SINGLE_PROCESS, World


class Trainer:
    """Learns every finished iteration of one run."""

    def __init__(
        self, log: Log, run: Path, schedule: UpdateSchedule, world: World = SINGLE_PROCESS, *, activity: Activity | None = None
    ) -> None:
        """Continue after the last update in the log; `run` is the run's folder, `activity` shows the progress of updates."""
        self._log = log
        self._schedule = schedule
        self._config = schedule.config
        self._start = schedule.start
        self._world = world
        self._activity = activity or Activity()
        self._store = run / "weights"
        self._policies = PolicyStore(self._store, schedule.start, schedule.config, world)
        self._cursors = {name: schedule.cursor(name) for name in schedule.policies}
        if world.is_leader:
            checkpoint.remove_unfinished(self._store)
            prune.remove_weights(self._store, prune.pruned_digests(log.read(kinds=prune.KINDS), self._config.learn))

    def prepare(self) -> None:
        """Load every policy ahead of its first iteration, after probing the weights that play may be about to serve."""
        with self._activity.task("loading the weights"):
            if not self._start.sources:
                self._probe()
            for cursor in self._cursors.values():
                self._policies.load(cursor)

    def _probe(self) -> None:
        # Policies may have the same weights, as at the start.
        facts_of: dict[Digest, PolicyProbed] = {}
        for name, cursor in self._cursors.items():
            probed = {fact.digest for fact in read_facts(self._log, PolicyProbed, cursor.stream)}
            newest = replay.policy_digests(self._log, name, self._start)[-1 - self._config.learn.staleness :]
            waiting = [digest for digest in dict.fromkeys(newest) if digest not in probed]
            for digest in waiting:
                facts_of[digest] = facts_of.get(digest) or self._policies.probe_stored(name, digest)
            facts = [facts_of[digest] for digest in waiting]
            key = f"probe@{cursor.version}"
            for event in self._log.append(cursor.stream, facts, expected=cursor.version, key=key) if facts else ():
                self._cursors[name] = self._cursors[name].advanced(event)

    def has_work(self) -> bool:
        """Whether a finished iteration waits to be learned."""
        return any(map(self._schedule.next, self._cursors.values()))

    def is_over(self) -> bool:
        """Whether no more iterations will be played; finished ones may still wait to be learned."""
        return all(map(self._schedule.is_over, self._cursors.values()))

    def catch_up(self) -> Iterator[Event]:
        """Learn every iteration that waits, and yield each update once it is in the log."""
        while self.has_work():
            for name in self._cursors:
                waiting = self._schedule.next(self._cursors[name])
                if waiting is not None:
                    self._world.broadcast(f"{name} {waiting[1].position}")
                    yield self._advance(*waiting)

    def assist(self) -> None:
        """Take part in the updates of the leading process, until it ends; TrainerError if it learns what does not wait here."""
        while message := self._world.broadcast():
            name = next(name for name in self._cursors if name == message.split()[0])
            waiting = self._schedule.next(self._cursors[name])
            if waiting is None or message != f"{name} {waiting[1].position}":
                raise TrainerError(f"The leading process learns {message!r}, which does not wait here; let all read one log.")
            self._advance(*waiting)

    def _advance(self, cursor: Cursor, end: Event) -> Event:
        """Learn the iteration that `end` finishes, or make the trial that it starts; returns the commit point in the log."""
        assert isinstance(end.fact, IterationFinished | TrialStarted)
        what = "trying a set of" if isinstance(end.fact, TrialStarted) else "learning from"
        task = f"{what} iteration {end.fact.iteration} ({cursor.name})"
        with bound_contextvars(policy=cursor.name, iteration=end.fact.iteration), self._activity.task(task):
            logger().info("update_started", until=end.position)
            try:
                events = self._update(cursor, end)
            except BaseException as error:
                logger().error("update_failed", error=type(error).__name__)
                raise
        for event in events:
            cursor = cursor.advanced(event)
            if isinstance(event.fact, WeightsPruned) and self._world.is_leader:
                prune.remove_weights(self._store, event.fact.digests)
        self._cursors[cursor.name] = cursor
        return events[0]

    def finish(self) -> None:
        """Append `RunFinished` to a run that was trained offline; of any other run, play appends it."""
        if self._start.sources and not replay.is_run_over(self._log, 0):
            iterations = len(replay.policy_digests(self._log, self._schedule.policies[0], self._start)) - 1
            self._log.append(RUN, [RunFinished(iterations=iterations)])

    def _update(self, cursor: Cursor, end: Event) -> list[Event]:
        """Make an update, or a trial, and append it; the events that the policy's stream got."""
        began = time.monotonic()
        iteration = self._schedule.rollouts(cursor, end)
        promoted = self._promoted_trial(cursor, iteration, end)
        if promoted is None:
            steps, digest = self._learn(cursor, self._schedule.step_batches(cursor, iteration))
        else:
            steps, digest = list(promoted.steps), promoted.digest
        self._schedule.check("weights", cursor, end, digest)
        served = digest != cursor.digest and not cursor.source and promoted is None
        probes = [self._policies.probe(cursor.name)] if served else []
        if not self._world.is_leader:
            # Wait until the leader has appended, then read what it appended.
            self._world.broadcast()
            return [event for event in self._log.read(cursor.stream) if event.version > cursor.version]
        seconds = time.monotonic() - began
        optimizer = cursor.optimizer if digest == cursor.digest else optimizer_digest(self._store / digest)
        facts: list[Fact]
        if isinstance(end.fact, TrialStarted):
            facts = [_trial_learned(end, end.fact, digest, iteration.digest, steps, optimizer), *probes]
        else:
            fact = self._policy_updated(cursor, iteration, digest, steps, optimizer)
            pruned = prune.prunable_digests(self._log.read(kinds=prune.KINDS), fact, self._config.learn)
            facts = [fact, *probes, *([WeightsPruned(digests=pruned)] if pruned else [])]
        observed = {"seconds": seconds}
        if promoted is None:
            observed["tokens_per_second"] = sum(step.tokens for step in steps) / seconds
        key = f"update@{cursor.version}"
        events = self._log.append(cursor.stream, facts, expected=cursor.version, observed=observed, key=key)
        if events[0].fact != facts[0]:
            raise Conflict(
                f"Another trainer has recorded event {cursor.version + 1} of {cursor.stream} with other content;"
                " let one trainer learn from a run."
            )
        self._world.broadcast("appended")
        return events

    def _promoted_trial(self, cursor: Cursor, iteration: IterationRollouts, end: Event) -> TrialLearned | None:
        """The trial of this run whose weights an update takes over; None where the update has to be learned."""
        trial = iteration.trial
        if trial is None or isinstance(end.fact, TrialStarted) or "student" not in POLICY_ROLES[cursor.name] or cursor.source:
            return None
        wanted = trial.iteration, trial.set, trial.student
        made = read_facts(self._log, TrialLearned, cursor.stream)
        return next((fact for fact in made if (fact.iteration, fact.set, fact.student) == wanted), None)

    def _policy_updated(
        self,
        cursor: Cursor,
        iteration: IterationRollouts,
        digest: Digest,
        steps: Sequence[OptimizerStep],
        optimizer: Digest | None,
    ) -> PolicyUpdated:
        promoted = iteration.trial if "student" in POLICY_ROLES[cursor.name] else None
        return PolicyUpdated(
            policy=cursor.name,
            parent=cursor.digest,
            digest=digest,
            iteration=iteration.iteration,
            after=iteration.after,
            until=iteration.until,
            source=cursor.source,
            samples=iteration.digest,
            step=cursor.step + sum(step.samples > 0 for step in steps),
            steps=tuple(steps),
            optimizer=optimizer,
            advantage_estimator=advantage_estimator(self._config.algorithm(), self._config.learn),
            set=0 if promoted is None else promoted.set,
        )

    def _learn(self, cursor: Cursor, batches: list[StepBatch]) -> tuple[list[OptimizerStep], Digest]:
        if not any(batch.rollouts for batch in batches):
            return [describe_step(batch, {}) for batch in batches], cursor.digest
        policy = self._policies.check_out(cursor)
        steps: list[OptimizerStep] = []
        batches = batches * self._config.learn.epochs
        with self._activity.task("tokens learned", sum(batch.learned_tokens for batch in batches)) as task:
            for batch in batches:
                first = not any(step.samples for step in steps)
                step = self._step(batch, policy, task)
                if first and step.samples and batch.phase != "text":
                    self._check_mismatch(cursor, batch, step)
                steps.append(step)
        with self._activity.task("saving the weights"):
            return steps, self._policies.save(cursor, policy)

    @cached_property
    def _batch_tokens(self) -> int:
        import torch

        weights = weight_count(self._store / self._start.policies["student"])
        return batch_tokens(self._config.learn, weights, cpu=not torch.cuda.is_available())

    def _step(self, batch: StepBatch, policy: TrainablePolicy, task: ActivityTask) -> OptimizerStep:
        if not batch.rollouts:
            return describe_step(batch, {})
        before = task.done

        def progress(done: int, total: int) -> None:
            # `done` counts this process's share of the batch; the others are about as far.
            task.done = before + batch.learned_tokens * done / total

        return take_step(batch, policy.loss, policy.adam, self._batch_tokens, self._world, progress=progress)

    def _check_mismatch(self, cursor: Cursor, batch: StepBatch, step: OptimizerStep) -> None:
        """Compare logged logprobs with those of the weights that sampled; offline only if these are the newest."""
        digest = batch.rollouts[0].policy
        if digest == cursor.digest:
            check_mismatch(batch, step.metrics, self._config)
        elif cursor.source == 0:
            loss = self._policies.loss_of(cursor.name, digest)
            check_mismatch(batch, evaluate_loss(batch, loss, self._batch_tokens, self._world), self._config)


def _trial_learned(
    begin: Event, trial: TrialStarted, digest: Digest, samples: str, steps: Sequence[OptimizerStep], optimizer: Digest | None
) -> TrialLearned:
    """The record of a trial that began with the event `begin`."""
    return TrialLearned(
        of=begin.position,
        iteration=trial.iteration,
        set=trial.set,
        student=trial.student,
        parent=trial.policy,
        digest=digest,
        samples=samples,
        steps=tuple(steps),
        optimizer=optimizer,
    )
