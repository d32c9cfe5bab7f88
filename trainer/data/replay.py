"""Replay: reads from the log what a policy has to learn from the next finished iteration.

Guarantees:
- Deterministic. Rollouts are in the order of their rewards' positions; where several players may have played (`play.shares`
  above 1), in the order of streams and versions, so that equal facts give equal weights.
- Token ids and logprobs are the logged ones; text is never tokenised again.
- Failed episodes contribute nothing; a completion that was sampled by other weights than the iteration's is an error.

Not responsible for: advantages (`trainer.data.step_batches`).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from events.facts.certainty_facts import TextGiven
from events.facts.errors import TrainerError
from events.facts.log import Event, Log, find_run_started, read_facts
from events.facts.rollouts import unpack_rollouts
from events.facts.streams import policy_stream
from events.facts.trial_facts import StudentPromoted, TrialLearned, TrialStarted
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
from events.projections.lineage import POLICY_ROLES, PolicyName, learnable_events
from events.pure.advantages import RewardGroup
from graph.recipes.recipe import Recipe
from trainer.data import recrediting

_KINDS = (
    "iteration_started",
    "question_proposed",
    "attempts_made",
    "reward_given",
    "text_given",
    "episode_failed",
    "trial_started",
    "student_promoted",
    "iteration_finished",
)


@dataclass(frozen=True)
class Rollout:
    """One completion with its reward, or a given text; what the trainer reads of the log.

    Shapes below: P tokens of the prompt, T tokens of the completion.
    """

    stream: str
    version: int
    """Version, in the stream, of the generation that the completion belongs to, or of the given text."""
    index: int
    """Index of the completion in its generation."""
    prompt_ids: NDArray[np.int32]
    """Shape [P]."""
    ids: NDArray[np.int32]
    """Shape [T]."""
    logprobs: NDArray[np.float32]
    """Shape [T]: natural-log probabilities of `ids`, as sampled; 0 where the token was given."""
    sampled: NDArray[np.bool_]
    """Shape [T]: False where the token was given, so that nothing is learned from it."""
    role: Role
    phase: Phase
    task: Seat | Task
    reward: float
    policy: Digest
    """Weights that sampled it; empty for a given text."""
    temperature: float
    advantage: float = 0.0
    """How much better than expected, by the advantage estimator; set by `trainer.data.step_batches`."""

    @property
    def tokens(self) -> int:
        """Number of sampled tokens."""
        return int(self.sampled.sum())


@dataclass(frozen=True)
class RolloutGroup(RewardGroup):
    """All completions of one prompt; advantage estimators see their rewards only."""

    position: int
    """Position of the event that rewards them."""
    rollouts: tuple[Rollout, ...]
    """One for each of `rewards`."""


@dataclass(frozen=True)
class Cursor:
    """How far a policy has learned, and its weights."""

    name: PolicyName
    digest: Digest
    """The newest weights."""
    until: int
    """Last consumed position."""
    step: int
    """Optimizer steps taken since the run began."""
    version: int
    """Version of its stream; the next update expects it."""
    optimizer: Digest | None = None
    """Digest of the optimizer's state beside the weights; None where the log holds none."""
    source: int = 0
    """Which log `until` is a position of, as in `PolicyUpdated`."""
    tried: int = 0
    """Position of the last trial that was learned since."""

    @property
    def stream(self) -> str:
        """The stream that its updates are appended to."""
        return policy_stream(self.name)

    def advanced(self, event: Event) -> Cursor:
        """The cursor after `event` of its stream."""
        fact = event.fact
        if isinstance(fact, TrialLearned):
            return replace(self, version=event.version, tried=fact.of)
        if not isinstance(fact, PolicyUpdated):
            return replace(self, version=event.version)
        return Cursor(self.name, fact.digest, fact.until, fact.step, event.version, fact.optimizer, fact.source)


@dataclass(frozen=True)
class IterationRollouts:
    """The rollouts of one finished iteration, of all roles, since a recipe may compare them."""

    iteration: int
    after: int
    """Consumed positions are those > `after` ..."""
    until: int
    """... and <= `until`."""
    policies: Mapping[Role, Digest]
    """Weights that it was played with."""
    groups: tuple[RolloutGroup, ...]
    trial: TrialStarted | None = None
    """The trial that the student's rollouts are of: one to be made, or the one that was promoted."""

    @property
    def digest(self) -> str:
        """SHA-256 of the rollouts, recorded as `PolicyUpdated.samples`: equal for equal rollouts in equal order."""
        digest = hashlib.sha256()
        for rollout in (rollout for group in self.groups for rollout in group.rollouts):
            label = [rollout.stream, rollout.version, rollout.index, rollout.role, rollout.phase, rollout.task]
            numbers = [rollout.reward, rollout.policy, rollout.temperature]
            digest.update(json.dumps([*label, *numbers], separators=(",", ":")).encode())
            # A completion without given tokens has the digest that it had before completions could be given any.
            marks = () if rollout.sampled.all() else (rollout.sampled,)
            # The length goes in as well, so that tokens cannot move between neighbouring arrays unseen.
            for array in (rollout.prompt_ids, rollout.ids, rollout.logprobs, *marks):
                digest.update(len(array).to_bytes(8, "little"))
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def policy_cursor(log: Log, name: PolicyName, start: RunStarted) -> Cursor:
    """The policy's cursor after its last update, or at the start of the run."""
    state = start.inputs.get("optimizer")
    optimizer = None if state is None else Digest(state)
    cursor = Cursor(name, start.policies[POLICY_ROLES[name][0]], until=0, step=0, version=0, optimizer=optimizer)
    for event in log.read(policy_stream(name)):
        cursor = cursor.advanced(event)
    return cursor


def next_finished_iteration(log: Log, after: int, until: int | None = None, *, trials: bool = False) -> Event | None:
    """The first event in (`after`, `until`] that finishes an iteration or, of a policy with trials, starts one."""
    kinds = ("trial_started", "iteration_finished") if trials else ("iteration_finished",)
    event = next(log.read(after=after, kinds=kinds, limit=1), None)
    return None if event is None or (until is not None and event.position > until) else event


def policy_digests(log: Log, name: PolicyName, start: RunStarted) -> list[Digest]:
    """The policy's weights: at the start, and after each update, oldest first."""
    updates = read_facts(log, PolicyUpdated, policy_stream(name))
    return [start.policies[POLICY_ROLES[name][0]], *(fact.digest for fact in updates)]


def iteration_rollouts(log: Log, cursor: Cursor, end: Event, recredit: Recipe | None = None) -> IterationRollouts:
    """What a policy has to learn from the iteration that `end` finishes; the recipe `recredit` replaces recorded rewards.

    Of questions in sets, the student learns from those of the promoted trial only, or of the trial that `end` starts.

    Raises:
        TrainerError: the events contradict each other, or a completion comes from other weights than it should.
        LogCorrupt: a blob is missing or damaged.
    """
    assert isinstance(end.fact, IterationFinished | TrialStarted)
    kinds = _KINDS if recredit is None else (*_KINDS, *recrediting.KINDS)
    events = list(takewhile(lambda event: event.position <= end.position, log.read(after=cursor.until, kinds=kinds)))
    recredited = {} if recredit is None else recrediting.recredited_rewards(events, recredit)
    counted = {event.position for event in learnable_events(events)}
    trial = end.fact if isinstance(end.fact, TrialStarted) else _promoted_trial(events)
    generations: dict[tuple[str, int], Generation] = {}
    policies: dict[Role, Digest] | None = None
    groups: list[tuple[Event, RolloutGroup]] = []
    for event in events:
        match event.fact:
            case IterationStarted(iteration=number) if number == end.fact.iteration:
                policies = event.fact.policies
            case QuestionProposed() | AttemptsMade():
                generations[event.stream, event.version] = event.fact.generation
            case RewardGiven(role="student", set=number) if number and (trial is None or trial.set != number):
                continue
            case RewardGiven() if event.position in counted:
                if policies is None:
                    raise TrainerError(
                        f"Position {event.position} rewards completions of iteration {end.fact.iteration}, which never"
                        " started; the log is not one of graph.run."
                    )
                key = event.stream, event.fact.of
                if recredited.get(key, ()) is None:
                    continue
                fact = event.fact.model_copy(update={"rewards": recredited[key]}) if key in recredited else event.fact
                group = _group(log, event, fact, generations.get(key), policies)
                groups.append((event, _part_of_student(group, trial) if fact.set and fact.role == "student" else group))
            case TextGiven() as given if event.position in counted:
                groups.append((event, _text_group(log, event, given)))
    if shares(find_run_started(log)) > 1:
        groups.sort(key=lambda pair: (pair[0].stream, pair[0].version))
    ordered = tuple(group for _, group in groups)
    return IterationRollouts(end.fact.iteration, cursor.until, end.position, policies or {}, ordered, trial)


def _promoted_trial(events: Sequence[Event]) -> TrialStarted | None:
    """The trial of the student that was promoted; None where none was."""
    promoted = {(fact.set, fact.student) for event in events if isinstance(fact := event.fact, StudentPromoted)}
    trials = [event.fact for event in events if isinstance(event.fact, TrialStarted)]
    return next((trial for trial in trials if (trial.set, trial.student) in promoted), None)


def _part_of_student(group: RolloutGroup, trial: TrialStarted | None) -> RolloutGroup:
    """The attempts at a question that the student of a trial learns from."""
    assert trial is not None
    part = slice(trial.student - 1, None, trial.students)
    return replace(group, rewards=group.rewards[part], rollouts=group.rollouts[part])


def shares(start: RunStarted | None) -> int:
    """The setting `play.shares` of a run; 1 for runs that were recorded before there was one."""
    return 1 if start is None else int(start.config.get("play", {}).get("shares", 1))


def _group(
    log: Log, event: Event, fact: RewardGiven, generation: Generation | None, policies: dict[Role, Digest]
) -> RolloutGroup:
    where = f"Position {event.position} ({event.stream})"
    if generation is None:
        raise TrainerError(f"{where} rewards version {fact.of}, where nothing was generated in this iteration; run verify.")
    expected = policies[fact.role]
    if generation.policy != expected:
        raise TrainerError(
            f"{where} rewards completions of policy {generation.policy}, but the iteration plays its {fact.role} with"
            f" {expected}; the model served stale weights, so restart it and play the iteration again."
        )
    if generation.sampling.temperature == 0 or generation.sampling.top_p != 1:
        raise TrainerError(
            f"{where} rewards completions sampled with {generation.sampling!r}, whose logprobs cannot be computed again;"
            " play with a temperature above 0 and top_p 1."
        )
    arrays = unpack_rollouts(log.get(generation.tokens))
    counts = {"rewards": len(fact.rewards), "completions": len(arrays.ids), "count": generation.count}
    tokens = {"tokens": sum(map(len, arrays.ids)), "length": generation.length}
    for numbers in (counts, tokens):
        if len(set(numbers.values())) != 1:
            raise TrainerError(f"{where} does not fit its generation: {numbers}; the model server cut it, or run verify.")
    if len(arrays.prompt) == 0:
        raise TrainerError(f"{where} rewards completions of an empty prompt; a prompt needs at least one token.")
    if not all(np.isfinite(row).all() for row in arrays.logprobs):
        raise TrainerError(f"{where} rewards completions with logprobs that are not numbers; check the model server.")
    rollouts = tuple(
        Rollout(
            stream=event.stream,
            version=fact.of,
            index=index,
            prompt_ids=arrays.prompt,
            ids=ids,
            logprobs=logprobs,
            sampled=sampled,
            role=fact.role,
            phase=fact.phase,
            task=fact.task,
            reward=reward,
            policy=generation.policy,
            temperature=generation.sampling.temperature,
        )
        for index, (ids, logprobs, sampled, reward) in enumerate(
            zip(arrays.ids, arrays.logprobs, arrays.sampled, fact.rewards, strict=True)
        )
    )
    return RolloutGroup(
        phase=fact.phase,
        role=fact.role,
        task=fact.task,
        rewards=fact.rewards,
        position=event.position,
        rollouts=rollouts,
        prompt=generation.prompt,
        set=fact.set,
    )


def _text_group(log: Log, event: Event, fact: TextGiven) -> RolloutGroup:
    """A given text as a group of one; it has no reward."""
    where = f"Position {event.position} ({event.stream})"
    arrays = unpack_rollouts(log.get(fact.tokens))
    if len(arrays.ids) != 1 or len(arrays.prompt) == 0 or int(arrays.sampled[0].sum()) != fact.length:
        raise TrainerError(f"{where} gives a text whose tokens do not fit it; run verify.")
    rollout = Rollout(
        stream=event.stream,
        version=event.version,
        index=0,
        prompt_ids=arrays.prompt,
        ids=arrays.ids[0],
        logprobs=arrays.logprobs[0],
        sampled=arrays.sampled[0],
        role="student",
        phase="text",
        task="induction",
        reward=0.0,
        policy=Digest(""),
        temperature=1.0,
    )
    return RolloutGroup(
        phase="text",
        role="student",
        task="induction",
        rewards=(0.0,),
        position=event.position,
        rollouts=(rollout,),
        prompt=fact.prompt,
    )


def is_run_over(log: Log, after: int) -> bool:
    """Whether the run was finished after this position, and not resumed since."""
    ends = deque(log.read(after=after, kinds=("run_resumed", "run_finished")), maxlen=1)
    return bool(ends) and ends[0].fact.kind == "run_finished"
