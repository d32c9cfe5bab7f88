"""Replays the log: from a policy's cursor to the next finished iteration, what is to be learned.

Law: a pure, deterministic fold. Samples are exactly what was sampled (ids and logprobs from the log; text is never
tokenised again), in the order of their rewards' positions; an episode that failed contributes nothing; a completion
that another policy sampled than the iteration was to play with is an error. It credits and computes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.facts.errors import TrainerError
from events.facts.log import Event, Log
from events.facts.rollouts import Rollouts, unpack_rollouts
from events.facts.streams import policy_stream
from events.facts.types import (
    AttemptsMade,
    IterationFinished,
    IterationStarted,
    PolicyUpdated,
    QuestionProposed,
    RewardGiven,
    RunStarted,
)
from events.facts.values import Digest, Generation, Phase, Role, Seat, Task
from events.projections.lineage import POLICY_ROLES, PolicyName, learnable_rewards
from graph.recipes.recipe import Recipe
from trainer.data import recrediting

_KINDS: Final = (
    "iteration_started",
    "question_proposed",
    "attempts_made",
    "reward_given",
    "episode_failed",
    "iteration_finished",
)


@dataclass(frozen=True)
class Rollout:
    """One completion, as it was sampled, with its reward."""

    stream: str
    version: int
    """Version, in the stream, of the generation that it is one of."""
    index: int
    """Its place in that generation."""
    prompt_ids: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    role: Role
    phase: Phase
    task: Seat | Task
    reward: float
    policy: Digest
    """Weights that sampled it."""
    temperature: float


@dataclass(frozen=True)
class RolloutGroup:
    """All completions of one prompt."""

    position: int
    """Where the log rewards them."""
    phase: Phase
    role: Role
    task: Seat | Task
    samples: tuple[Rollout, ...]

    @property
    def rewards(self) -> tuple[float, ...]:
        """One a completion, in order."""
        return tuple(sample.reward for sample in self.samples)


@dataclass(frozen=True)
class Cursor:
    """Where a policy stands: what it is, and up to where it has learned."""

    name: PolicyName
    digest: Digest
    """Weights now."""
    until: int
    """Positions up to here are consumed."""
    step: int
    """Optimizer steps taken since the run began."""
    version: int
    """Version of its stream; the next update expects it."""
    optimizer: Digest | None = None
    """The optimizer's state beside the weights; None where nobody vouches for it."""
    source: int = 0
    """Which log `until` is a position of, as in `PolicyUpdated`."""

    @property
    def stream(self) -> str:
        """Where its updates are appended."""
        return policy_stream(self.name)

    def behind(self, event: Event) -> Cursor:
        """The cursor once `event` of its stream is in the log."""
        fact = event.fact
        if not isinstance(fact, PolicyUpdated):
            return replace(self, version=event.version)
        return Cursor(self.name, fact.digest, fact.until, fact.step, event.version, fact.optimizer, fact.source)


@dataclass(frozen=True)
class IterationRollouts:
    """One finished iteration: the groups of all roles, since a recipe may compare them."""

    iteration: int
    after: int
    until: int
    policies: Mapping[Role, Digest]
    """Weights that it was played with."""
    groups: tuple[RolloutGroup, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the sample stream: equal for equal samples in equal order."""
        total = hashlib.sha256()
        for sample in (sample for group in self.groups for sample in group.samples):
            label = [sample.stream, sample.version, sample.index, sample.role, sample.phase, sample.task]
            numbers = [sample.reward, sample.policy, sample.temperature]
            total.update(json.dumps([*label, *numbers], separators=(",", ":")).encode())
            for array in (sample.prompt_ids, sample.ids, sample.logprobs):
                total.update(len(array).to_bytes(8, "little"))
                total.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return total.hexdigest()


def policy_cursor(log: Log, name: PolicyName, start: RunStarted) -> Cursor:
    """Where the policy stands: behind its last update, or at the start of the run."""
    state = start.inputs.get("optimizer")
    optimizer = None if state is None else Digest(state)
    place = Cursor(name, start.policies[POLICY_ROLES[name][0]], until=0, step=0, version=0, optimizer=optimizer)
    for event in log.read(policy_stream(name)):
        place = place.behind(event)
    return place


def next_finished_iteration(log: Log, after: int, until: int | None = None) -> Event | None:
    """The next event that finishes an iteration, if there is one (not behind `until`)."""
    event = next(log.read(after=after, kinds=("iteration_finished",), limit=1), None)
    return None if event is None or (until is not None and event.position > until) else event


def policy_digests(log: Log, name: PolicyName, start: RunStarted) -> list[Digest]:
    """The policy's weights: those at the start, and those after each update."""
    updates = (event.fact for event in log.read(policy_stream(name), kinds=("policy_updated",)))
    return [start.policies[POLICY_ROLES[name][0]], *(fact.digest for fact in updates if isinstance(fact, PolicyUpdated))]


def iteration_rollouts(log: Log, place: Cursor, end: Event, recredit: Recipe | None = None) -> IterationRollouts:
    """What `place` has to learn from the iteration that `end` finishes.

    Args:
        log: where it was played.
        place: what is consumed already.
        end: the iteration's end.
        recredit: whose rewards count instead of the recorded ones.

    Raises:
        TrainerError: the events contradict each other, or a completion comes from other weights than it should.
        LogCorrupt: a blob is missing or damaged.
    """
    assert isinstance(end.fact, IterationFinished)
    kinds = _KINDS if recredit is None else (*_KINDS, *recrediting.KINDS)
    events = list(_up_to(log.read(after=place.until, kinds=kinds), end.position))
    again = {} if recredit is None else recrediting.recredited_rewards(events, recredit)
    counted = {event.position for event in learnable_rewards(events)}
    made: dict[tuple[str, int], Generation] = {}
    policies: dict[Role, Digest] | None = None
    groups: list[RolloutGroup] = []
    for event in events:
        match event.fact:
            case IterationStarted(iteration=number) if number == end.fact.iteration:
                policies = event.fact.policies
            case QuestionProposed() | AttemptsMade():
                made[event.stream, event.version] = event.fact.generation
            case RewardGiven() if event.position in counted:
                if policies is None:
                    raise TrainerError(
                        f"Position {event.position} rewards completions of iteration {end.fact.iteration}, which never"
                        " started; the log is not one of graph.run"
                    )
                made_at = event.stream, event.fact.of
                fact = event.fact.model_copy(update={"rewards": again[made_at]}) if made_at in again else event.fact
                groups.append(_group(log, event, fact, made.get(made_at), policies))
            case _:
                pass
    return IterationRollouts(end.fact.iteration, place.until, end.position, policies or {}, tuple(groups))


def _last(events: Iterator[Event]) -> Event | None:
    ends = deque(events, maxlen=1)
    return ends[0] if ends else None


def _up_to(events: Iterator[Event], position: int) -> Iterator[Event]:
    for event in events:
        if event.position > position:
            return
        yield event


def _group(
    log: Log, event: Event, fact: RewardGiven, generation: Generation | None, policies: dict[Role, Digest]
) -> RolloutGroup:
    where = f"Position {event.position} ({event.stream})"
    if generation is None:
        raise TrainerError(f"{where} rewards version {fact.of}, where nothing was generated in this iteration; run verify")
    expected = policies[fact.role]
    if generation.policy != expected:
        raise TrainerError(
            f"{where} rewards completions of policy {generation.policy}, but the iteration plays its {fact.role} with"
            f" {expected}; the model served stale weights, so restart it and play the iteration again"
        )
    if generation.sampling.temperature == 0 or generation.sampling.top_p != 1:
        raise TrainerError(
            f"{where} rewards completions sampled with {generation.sampling!r}, whose logprobs cannot be computed again;"
            " play with a temperature above 0 and top_p 1"
        )
    rollouts = unpack_rollouts(log.get(generation.tokens))
    counts = {"rewards": len(fact.rewards), "completions": len(rollouts.ids), "count": generation.count}
    tokens = {"tokens": sum(map(len, rollouts.ids)), "length": generation.length}
    for numbers in (counts, tokens):
        if len(set(numbers.values())) != 1:
            raise TrainerError(f"{where} does not fit its generation: {numbers}; the model server cut it, or run verify")
    if len(rollouts.prompt) == 0:
        raise TrainerError(f"{where} rewards completions of an empty prompt; a prompt needs at least one token")
    if not all(np.isfinite(row).all() for row in rollouts.logprobs):
        raise TrainerError(f"{where} rewards completions with logprobs that are not numbers; check the model server")
    return RolloutGroup(
        event.position, fact.phase, fact.role, fact.task, tuple(_rollouts(event.stream, fact, generation, rollouts))
    )


def _rollouts(stream: str, fact: RewardGiven, generation: Generation, rollouts: Rollouts) -> Iterator[Rollout]:
    for index, reward in enumerate(fact.rewards):
        yield Rollout(
            stream,
            fact.of,
            index,
            rollouts.prompt,
            rollouts.ids[index],
            rollouts.logprobs[index],
            fact.role,
            fact.phase,
            fact.task,
            reward,
            generation.policy,
            generation.sampling.temperature,
        )


def is_run_over(log: Log, after: int) -> bool:
    """Whether the run was finished behind `after`, and not resumed since."""
    last = _last(log.read(after=after, kinds=("run_resumed", "run_finished")))
    return last is not None and last.fact.kind == "run_finished"
