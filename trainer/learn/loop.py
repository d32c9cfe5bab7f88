"""The trainer's loop: iteration by iteration, from samples over credit and steps to new weights and one append.

Law: appending `PolicyUpdated` is the commit point. Before it a crash loses only work; after it the iteration is behind
the cursor. So nothing is trained twice or skipped. It expects to be the only trainer of the run, and the append fails where
it is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from structlog.contextvars import bound_contextvars

from events.facts.errors import TrainerError
from events.facts.log import Event, Log
from events.facts.streams import RUN
from events.facts.types import IterationFinished, PolicyProbed, PolicyUpdated, RunFinished, WeightsPruned
from events.facts.values import Digest, OptimizerStep
from events.facts.weights import optimizer_digest
from events.process.activity import Activity, ActivityTask
from events.text.logging import logger
from graph.estimate.memory import batch_tokens
from graph.settings.threads import weight_count
from trainer.data import replay
from trainer.data.credited_samples import StepBatch
from trainer.data.replay import Cursor
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn import checkpoint, logprob_mismatch, prune
from trainer.learn.policies import PolicyStore, TrainablePolicy
from trainer.learn.step import evaluate_loss, take_step
from trainer.parallel.distributed import SINGLE_PROCESS, World


class Trainer:
    """Learns every finished iteration of one run."""

    def __init__(
        self, log: Log, run: Path, syllabus: UpdateSchedule, world: World = SINGLE_PROCESS, *, activity: Activity | None = None
    ) -> None:
        """Take up the work where the log says that it was left; `activity` is told how far an update is."""
        self._log = log
        self._syllabus = syllabus
        self._config = syllabus.config
        self._start = syllabus.start
        self._world = world
        self._activity = activity or Activity()
        self._store = run / "weights"
        self._pupils = PolicyStore(self._store, syllabus.start, syllabus.config, world)
        self._places = {name: syllabus.place(name) for name in syllabus.policies}
        if world.is_leader:
            checkpoint.remove_unfinished(self._store)
            prune.remove_weights(self._store, prune.pruned_digests(log.read(kinds=prune.KINDS), self._config.learn))

    def prepare(self) -> None:
        """Load every policy ahead of its first iteration, once there is a probe of what play may be about to serve."""
        with self._activity.task("loading the weights"):
            if not self._start.sources:
                self._probe()
            for place in self._places.values():
                self._pupils.prepare(place)

    def _probe(self) -> None:
        for name, place in self._places.items():
            known = {event.fact.digest for event in self._log.read(place.stream) if isinstance(event.fact, PolicyProbed)}
            newest = replay.policy_digests(self._log, name, self._start)[-1 - self._config.learn.staleness :]
            facts = [self._pupils.probe_stored(name, digest) for digest in dict.fromkeys(newest) if digest not in known]
            for event in self._log.append(place.stream, facts, expected=place.version) if facts else ():
                self._places[name] = self._places[name].behind(event)

    def behind(self) -> bool:
        """Whether an iteration waits to be learned."""
        return any(map(self._syllabus.next, self._places.values()))

    def done(self) -> bool:
        """Whether the run is over; what it finished before may still wait to be learned."""
        return all(map(self._syllabus.over, self._places.values()))

    def catch_up(self) -> Iterator[Event]:
        """Learn what is finished and not yet learned, and yield each update once it is in the log."""
        progress = True
        while progress:
            progress = False
            for name in self._places:
                waiting = self._syllabus.next(self._places[name])
                if waiting is not None:
                    self._world.told(f"{name} {waiting[1].position}")
                    yield self._advance(*waiting)
                    progress = True

    def assist(self) -> None:
        """Learn along with the process that leads, until that is done."""
        while order := self._world.told():
            name = next(name for name in self._places if name == order.split()[0])
            waiting = self._syllabus.next(self._places[name])
            if waiting is None or order != f"{name} {waiting[1].position}":
                raise TrainerError(f"The leading process learns {order!r}, which is not what waits here; let all read one log")
            self._advance(*waiting)

    def _advance(self, place: Cursor, end: Event) -> Event:
        """Learn what `end` finishes; the update in the log."""
        assert isinstance(end.fact, IterationFinished)
        task = f"learning from iteration {end.fact.iteration} ({place.name})"
        with bound_contextvars(policy=place.name, iteration=end.fact.iteration), self._activity.task(task):
            logger().info("update_started", until=end.position)
            try:
                events = self._update(place, end)
            except BaseException as error:
                logger().error("update_failed", error=type(error).__name__)
                raise
        for event in events:
            place = place.behind(event)
            if isinstance(event.fact, WeightsPruned) and self._world.is_leader:
                prune.remove_weights(self._store, event.fact.digests)
        self._places[place.name] = place
        return events[0]

    def finish(self) -> None:
        """Say that it is over, if nobody else does: a run that learns from recordings has no player."""
        if self._start.sources and not replay.is_run_over(self._log, 0):
            iterations = len(replay.policy_digests(self._log, self._syllabus.policies[0], self._start)) - 1
            self._log.append(RUN, [RunFinished(iterations=iterations)])

    def _update(self, place: Cursor, end: Event) -> list[Event]:
        began = time.monotonic()
        found = self._syllabus.window(place, end)
        steps, digest = self._learn(place, self._syllabus.lessons(place, found))
        self._syllabus.check("weights", place, end, digest)
        played = digest != place.digest and not place.source
        probes = [self._pupils.probe(place.name)] if played else []
        if not self._world.is_leader:
            self._world.told()
            return [event for event in self._log.read(place.stream) if event.version > place.version]
        seconds = time.monotonic() - began
        fact = PolicyUpdated(
            policy=place.name,
            parent=place.digest,
            digest=digest,
            iteration=found.iteration,
            after=found.after,
            until=found.until,
            source=place.source,
            samples=found.digest,
            step=place.step + sum(step.samples > 0 for step in steps),
            steps=tuple(steps),
            optimizer=place.optimizer if digest == place.digest else optimizer_digest(self._store / digest),
        )
        gone = prune.prunable_digests(self._log.read(kinds=prune.KINDS), fact, self._config.learn)
        facts = [fact, *probes, *([WeightsPruned(digests=gone)] if gone else [])]
        observed = {"seconds": seconds, "tokens_per_second": sum(step.tokens for step in steps) / seconds}
        events = self._log.append(place.stream, facts, expected=place.version, observed=observed)
        self._world.told("appended")
        return events

    def _learn(self, place: Cursor, todo: list[StepBatch]) -> tuple[list[OptimizerStep], Digest]:
        if not any(lesson.credited for lesson in todo):
            return [_skipped_step(lesson) for lesson in todo], place.digest
        pupil = self._pupils.take(place)
        steps: list[OptimizerStep] = []
        todo = todo * self._config.learn.epochs
        with self._activity.task("tokens learned", sum(map(_token_count, todo))) as task:
            for lesson in todo:
                fresh = not any(step.samples for step in steps)
                step = self._step(lesson, pupil, task)
                if fresh and step.samples:
                    self._check_drift(place, lesson, step)
                steps.append(step)
        with self._activity.task("saving the weights"):
            return steps, self._pupils.save(place, pupil)

    @cached_property
    def _batch_tokens(self) -> int:
        import torch

        weights = weight_count(self._store / self._start.policies["student"])
        return batch_tokens(self._config.learn, weights, cpu=not torch.cuda.is_available())

    def _step(self, lesson: StepBatch, pupil: TrainablePolicy, task: ActivityTask) -> OptimizerStep:
        if not lesson.credited:
            return _skipped_step(lesson)
        before = task.done

        def progress(done: int, of: int) -> None:
            # Others may have a share of the lesson; all are about as far.
            task.done = before + _token_count(lesson) * done / of

        return take_step(lesson, pupil.loss, pupil.adam, self._batch_tokens, self._world, progress=progress)

    def _check_drift(self, place: Cursor, lesson: StepBatch, step: OptimizerStep) -> None:
        """Weights that sampled must find their own logprobs again."""
        digest = lesson.credited[0].sample.policy
        if digest == place.digest:
            logprob_mismatch.check_mismatch(lesson, step.metrics, self._config)
        elif place.source == 0:
            loss = self._pupils.other(place, digest)
            logprob_mismatch.check_mismatch(lesson, evaluate_loss(lesson, loss, self._batch_tokens, self._world), self._config)


def _token_count(lesson: StepBatch) -> int:
    return sum(len(one.sample.ids) for one in lesson.credited)


def _skipped_step(lesson: StepBatch) -> OptimizerStep:
    return OptimizerStep(
        phase=lesson.phase,
        groups=lesson.groups,
        silent_groups=lesson.silent_groups,
        silent=dict(lesson.silent),
        samples=0,
        tokens=0,
        reward=lesson.reward,
        metrics={},
    )
