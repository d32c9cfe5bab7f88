"""Lineage in both directions: which generations some weights learned from, and which weights learned from a generation.

A generation is named `STREAM:VERSION`, one of its completions `STREAM:VERSION/INDEX`; weights are named by the first digits of
their digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from events.facts.digests import find_digest
from events.facts.errors import BadInput
from events.facts.log import Log, event_at, find_run_started
from events.facts.streams import policy_stream
from events.facts.types import AttemptsMade, EpisodeFailed, EpisodeStarted, PolicyUpdated, QuestionProposed, RewardGiven
from events.facts.values import Digest, Phase, QuestionId, Role, Seat, Task
from events.projections import lineage
from events.projections.lineage import POLICY_ROLES

_KINDS: Final = ("episode_started", "question_proposed", "attempts_made", "reward_given", "episode_failed")
_POLICY_STREAMS: Final = tuple(policy_stream(name) for name in POLICY_ROLES)


@dataclass(frozen=True)
class GenerationLineage:
    """The completions of one prompt, with what the log says of them."""

    id: str
    iteration: int | None
    role: Role
    task: Seat | Task
    question: QuestionId
    """The question that was asked; of a proposal, the one that it varies."""
    goalpost: QuestionId | None
    """The goalpost that guides the episode; None in real-data RL and evaluations."""
    sampled_by: Digest
    position: int | None = None
    """Position of its reward; None where it has none."""
    phase: Phase | None = None
    rewards: tuple[float, ...] = ()
    failed: bool = False
    """Whether its episode failed, so that nothing of it is learned."""
    set: int = 0
    """The set of questions that it belongs to; of a set, the student's rollouts are consumed if a trial of it is promoted."""


@dataclass(frozen=True)
class PositionedUpdate:
    """An update and its position in the log."""

    position: int
    fact: PolicyUpdated


def updates(log: Log) -> list[PositionedUpdate]:
    """All updates of policies, in the log's order."""
    events = (event for event in log.read(kinds=("policy_updated",)) if event.stream in _POLICY_STREAMS)
    return [PositionedUpdate(event.position, event.fact) for event in events if isinstance(event.fact, PolicyUpdated)]


def ancestry(log: Log, digits: str) -> list[PositionedUpdate]:
    """The updates that led to some weights, the one that made them first; none for those that the run started with.

    Raises:
        BadInput: no weights begin with these digits, or several do.
    """
    all_updates, start = updates(log), find_run_started(log)
    initial = set(start.policies.values()) if start else set()
    digests = initial.union(update.fact.digest for update in all_updates)
    digest = find_digest(digits, digests, "this log")
    line: list[PositionedUpdate] = []
    for update in reversed(all_updates):
        fact = update.fact
        policy = line[0].fact.policy if line else fact.policy
        # An update without signal keeps its parent's digest, so that it has not made it.
        if fact.digest == digest != fact.parent and fact.policy == policy and digest not in initial:
            line.append(update)
            digest = fact.parent
    return line


def consumed_generations(log: Log, update: PolicyUpdated) -> list[GenerationLineage]:
    """The generations that an update learned from; `log` is the update's own, or the source that it names."""
    positions = {event.position for event in lineage.consumed(log, update)}
    return [generation for generation in _generations(log, update.after, update.until) if generation.position in positions]


def find_generation(log: Log, name: str) -> tuple[GenerationLineage, int | None]:
    """The generation of this name, and the index of the completion if the name has one.

    Raises:
        BadInput: there is no such generation or completion.
    """
    stream, _, rest = name.rpartition(":")
    version, _, index = rest.partition("/")
    if not stream or not version.isdigit() or (index and not index.isdigit()):
        raise BadInput(f"{name!r} does not name a rollout; write STREAM:VERSION or STREAM:VERSION/INDEX.")
    for generation in _generations(log, 0, None, stream):
        if generation.id == f"{stream}:{version}":
            count = len(generation.rewards)
            if index and count and int(index) >= count:
                raise BadInput(f"Rollout {generation.id} has {count} completions; give an index from 0, not {index}.")
            return generation, int(index) if index else None
    raise BadInput(f"Nothing was generated at version {version} of {stream!r} in this log; `gasp log show` lists its events.")


def consuming_updates(log: Log, generation: GenerationLineage) -> list[PositionedUpdate]:
    """The updates of this run that learned from a generation; runs trained offline have theirs in their own logs."""
    rewarded = None if generation.position is None else event_at(log, generation.position)
    if rewarded is None or generation.failed:
        return []
    return [update for update in updates(log) if lineage.covers(update.fact, rewarded)]


def _generations(log: Log, after: int, until: int | None, stream: str | None = None) -> Iterator[GenerationLineage]:
    episodes: dict[str, EpisodeStarted] = {}
    made: dict[tuple[str, int], QuestionProposed | AttemptsMade] = {}
    rewarded: dict[tuple[str, int], tuple[int, RewardGiven]] = {}
    failed: set[str] = set()
    events = log.read(stream, after=after, kinds=_KINDS)
    for event in takewhile(lambda event: until is None or event.position <= until, events):
        match event.fact:
            case EpisodeStarted() as fact:
                episodes[event.stream] = fact
            case QuestionProposed() | AttemptsMade() as fact:
                made[event.stream, event.version] = fact
            case RewardGiven() as fact:
                rewarded[event.stream, fact.of] = event.position, fact
            case EpisodeFailed():
                failed.add(event.stream)
    for (stream_of, version), fact in made.items():
        episode = episodes.get(stream_of)
        position, reward = rewarded.get((stream_of, version), (None, None))
        yield GenerationLineage(
            id=f"{stream_of}:{version}",
            iteration=episode.iteration if episode else None,
            role="teacher" if isinstance(fact, QuestionProposed) else "student",
            task=fact.seat if isinstance(fact, QuestionProposed) else fact.task,
            question=fact.parent if isinstance(fact, QuestionProposed) else fact.question,
            goalpost=episode.question if episode and episode.purpose == "guided" else None,
            sampled_by=fact.generation.policy,
            position=position,
            phase=reward.phase if reward else None,
            rewards=reward.rewards if reward else (),
            failed=stream_of in failed,
            set=reward.set if reward else 0,
        )
