"""The trainer's loop: iteration by iteration, from samples over credit and steps to new weights and one append.

Law: appending `PolicyUpdated` is the commit point. Before it a crash loses only work; after it the iteration is behind
the cursor. So nothing is trained twice or skipped. It expects to be the only trainer of the run, and the append fails where
it is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from structlog.contextvars import bind_contextvars, unbind_contextvars

from events.errors import TrainerError
from events.log import Event, Log
from events.logging import logger
from events.types import IterationFinished, IterationStarted, PolicyServed, PolicyUpdated, RunStarted, StepTaken
from events.values import Digest
from graph.config import Config
from graph.recipes import recipe
from trainer import checkpoint, replay
from trainer.checkpoint import Weights
from trainer.credit import Lesson, lessons
from trainer.importance import DRIFT
from trainer.replay import Cursor, PolicyName
from trainer.step import Adam, learn
from trainer.trl import PolicyLoss

DRIFT_LIMIT: Final = 0.1
"""Largest mean distance, in nats, between logged and recomputed logprobs of the very weights that sampled."""


@dataclass
class Pupil:
    """A policy in memory: weights, loss and optimizer, as they are under `weights.digest`."""

    weights: Weights
    loss: PolicyLoss
    adam: Adam


class Trainer:
    """Learns every finished iteration of one run."""

    def __init__(self, log: Log, run: Path, start: RunStarted) -> None:
        """Read the settings of the run.

        Raises:
            TrainerError: they are of another version.
        """
        try:
            self._config = Config.model_validate(start.config)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise TrainerError(
                f"The run's setting {place} does not fit this version ({problem['msg']}); train it with its own"
            ) from error
        self._log = log
        self._start = start
        self._store = run / "weights"
        self._pupils: dict[PolicyName, Pupil] = {}
        names: tuple[PolicyName, ...] = ("shared",) if self._config.policies == "shared" else ("teacher", "student")
        self._places = {name: replay.cursor(log, name, start) for name in names}
        checkpoint.clean(self._store)

    def prepare(self) -> None:
        """Load every policy ahead of its first iteration."""
        for place in self._places.values():
            self._pupil(place)

    def behind(self) -> bool:
        """Whether an iteration waits to be learned."""
        return any(replay.finished(self._log, place.until) for place in self._places.values())

    def done(self) -> bool:
        """Whether the run is over; what it finished before may still wait to be learned."""
        return replay.over(self._log, min(place.until for place in self._places.values()))

    def catch_up(self) -> Iterator[Event]:
        """Learn what is finished and not yet learned, and yield each update once it is in the log."""
        progress = True
        while progress:
            progress = False
            for name, place in self._places.items():
                end = replay.finished(self._log, place.until)
                if end is not None:
                    assert isinstance(end.fact, IterationFinished)
                    # They stay bound when the update fails, so that the last line says what was being learned.
                    bind_contextvars(policy=name, iteration=end.fact.iteration)
                    logger().info("update_started", until=end.position)
                    event = self._update(place, end)
                    unbind_contextvars("policy", "iteration")
                    self._places[name] = place.behind(event)
                    self._prune()
                    yield event
                    progress = True

    def _update(self, place: Cursor, end: Event) -> Event:
        began = time.monotonic()
        found = replay.window(self._log, place, end)
        todo = lessons(found.groups, recipe(self._config), self._config.learn, replay.ROLES[place.name])
        steps, digest = self._learn(place, todo)
        seconds = time.monotonic() - began
        fact = PolicyUpdated(
            policy=place.name,
            parent=place.digest,
            digest=digest,
            iteration=found.iteration,
            after=found.after,
            until=found.until,
            samples=found.digest,
            step=place.step + sum(step.samples > 0 for step in steps),
            steps=tuple(steps),
        )
        observed = {"seconds": seconds, "tokens_per_second": sum(step.tokens for step in steps) / seconds}
        return self._log.append(place.stream, [fact], expected=place.version, observed=observed)[0]

    def _learn(self, place: Cursor, todo: list[Lesson]) -> tuple[list[StepTaken], Digest]:
        if not any(lesson.credited for lesson in todo):
            return [_idle(lesson) for lesson in todo], place.digest
        pupil = self._pupil(place)
        # Whatever happens from here on, what is in memory is no longer what its digest says until it is saved.
        del self._pupils[place.name]
        steps: list[StepTaken] = []
        for lesson in todo:
            fresh = not any(step.samples for step in steps)
            step = learn(lesson, pupil.loss, pupil.adam, self._config.learn.batch_tokens) if lesson.credited else _idle(lesson)
            if fresh and step.samples:
                _check_drift(lesson, step, place.digest)
            steps.append(step)
        folder = pupil.weights.folder
        digest = checkpoint.save(self._store, folder, pupil.weights.model, pupil.adam.moments())
        if digest != place.digest:
            pupil.weights = Weights(self._store / digest, digest, pupil.weights.model, pupil.weights.tokenizer, moments=None)
            self._pupils[place.name] = pupil
        return steps, digest

    def _pupil(self, place: Cursor) -> Pupil:
        held = self._pupils.get(place.name)
        if held is not None and held.weights.digest == place.digest:
            return held
        settings = self._config.learn
        weights = checkpoint.load(self._store, place.digest)
        first = self._start.policies[replay.ROLES[place.name][0]]
        loss = PolicyLoss(
            weights.model,
            weights.tokenizer,
            settings,
            seed=self._config.seed,
            folder=self._store,
            longest=max(self._config.play.student.max_tokens, self._config.play.teacher.max_tokens),
            reference=checkpoint.load(self._store, first).model if settings.kl else None,
        )
        self._pupils[place.name] = Pupil(weights, loss, Adam(weights.model, settings, weights.moments))
        return self._pupils[place.name]

    def _prune(self) -> None:
        """Keep the first weights, the newest of each policy, and all that the latest events name."""
        made: set[Digest] = set()
        needed = set(self._start.policies.values())
        for name in self._places:
            facts = [event.fact for event in self._log.read(f"policy/{name}", kinds=("policy_updated",))]
            updates = [fact for fact in facts if isinstance(fact, PolicyUpdated)]
            made.update(fact.digest for fact in updates)
            lineage = list(dict.fromkeys(fact.digest for fact in reversed(updates)))
            needed.update(lineage[: self._config.learn.keep], (fact.parent for fact in updates[-1:]))
        latest: dict[str, tuple[Digest, ...]] = {}
        for event in self._log.read(kinds=("iteration_started", "policy_served")):
            match event.fact:
                case IterationStarted():
                    latest["played"] = tuple(event.fact.policies.values())
                case PolicyServed():
                    latest[event.fact.role] = (event.fact.policy,)
                case _:
                    pass
        checkpoint.prune(self._store, made, needed.union(*latest.values()))


def _idle(lesson: Lesson) -> StepTaken:
    return StepTaken(
        phase=lesson.phase,
        groups=lesson.groups,
        silent_groups=lesson.silent_groups,
        silent=dict(lesson.silent),
        samples=0,
        tokens=0,
        reward=lesson.reward,
        metrics={},
    )


def _check_drift(lesson: Lesson, step: StepTaken, digest: Digest) -> None:
    """Weights that sampled must find their own logprobs again."""
    drift = step.metrics[DRIFT]
    first = lesson.credited[0].sample
    if first.policy == digest and drift > DRIFT_LIMIT:
        raise TrainerError(
            f"The logprobs of iteration samples such as {first.stream} version {first.version} differ by {drift:.3f} nats from"
            f" those of {digest}, which is said to have sampled them; the model server is wrong, restart it"
        )
