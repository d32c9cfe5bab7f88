"""Lineage both ways: what fed some weights, and which weights a rollout fed.

Law: pure folds of the log. A rollout is called `STREAM:VERSION`, which is where it was generated, or `STREAM:VERSION/INDEX`
for one of its completions; weights are called by the first digits of their digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from events.facts.digests import find_digest
from events.facts.errors import BadInput
from events.facts.log import Log, find_run_started
from events.facts.streams import policy_stream
from events.facts.types import AttemptsMade, EpisodeFailed, EpisodeStarted, PolicyUpdated, QuestionProposed, RewardGiven
from events.facts.values import Digest, Phase, QuestionId, Role, Seat, Task
from events.projections import lineage
from events.projections.lineage import POLICY_ROLES

_KINDS: Final = ("episode_started", "question_proposed", "attempts_made", "reward_given", "episode_failed")
_POLICY_STREAMS: Final = tuple(policy_stream(name) for name in POLICY_ROLES)


@dataclass(frozen=True)
class GenerationLineage:
    """The completions of one prompt, and what is known of them."""

    id: str
    iteration: int | None
    role: Role
    task: Seat | Task
    question: QuestionId
    """What was asked; of a proposal, what it varies."""
    goalpost: QuestionId | None
    """What the episode is to reach; None in practice and examinations."""
    sampled_by: Digest
    position: int | None = None
    """Where it is rewarded, None where it is not."""
    phase: Phase | None = None
    rewards: tuple[float, ...] = ()
    failed: bool = False
    """Whether its episode broke off, so that nothing of it is learned."""


@dataclass(frozen=True)
class PositionedUpdate:
    """An update and its place in the log."""

    position: int
    fact: PolicyUpdated


def updates(log: Log) -> list[PositionedUpdate]:
    """All updates, in order."""
    found = (event for event in log.read(kinds=("policy_updated",)) if event.stream in _POLICY_STREAMS)
    return [PositionedUpdate(event.position, event.fact) for event in found if isinstance(event.fact, PolicyUpdated)]


def ancestry(log: Log, digits: str) -> list[PositionedUpdate]:
    """The updates that led to some weights, the one that made them first; none for those that the run started with.

    Raises:
        BadInput: no weights begin with these digits, or several do.
    """
    known, start = updates(log), find_run_started(log)
    first = set(start.policies.values()) if start else set()
    wanted = find_digest(digits, first.union(one.fact.digest for one in known), "this log")
    line: list[PositionedUpdate] = []
    # Updates without signal keep the digest; what made it is the earliest.
    for one in reversed(known):
        policy = line[0].fact.policy if line else one.fact.policy
        if one.fact.digest == wanted != one.fact.parent and one.fact.policy == policy and wanted not in first:
            line.append(one)
            wanted = one.fact.parent
    return line


def consumed_generations(log: Log, update: PolicyUpdated) -> list[GenerationLineage]:
    """What an update learned from. `log` is where it was played: the update's own, or the source that it names."""
    positions = {event.position for event in lineage.consumed(log, update)}
    return [rollout for rollout in _generations(log, update.after, update.until) if rollout.position in positions]


def find_generation(log: Log, name: str) -> tuple[GenerationLineage, int | None]:
    """The rollout of this name, and the index of the completion if the name has one.

    Raises:
        BadInput: there is none.
    """
    stream, _, rest = name.rpartition(":")
    version, _, index = rest.partition("/")
    if not stream or not version.isdigit() or (index and not index.isdigit()):
        raise BadInput(f"{name!r} does not name a rollout; write STREAM:VERSION or STREAM:VERSION/INDEX")
    for rollout in _generations(log, 0, None, stream):
        if rollout.id == f"{stream}:{version}":
            if index and rollout.rewards and int(index) >= len(rollout.rewards):
                raise BadInput(
                    f"Rollout {rollout.id} has {len(rollout.rewards)} completions, counted from 0; there is no {index}"
                )
            return rollout, int(index) if index else None
    raise BadInput(f"Nothing was generated at version {version} of {stream!r} in this log; list them by python -m events show")


def consuming_updates(log: Log, rollout: GenerationLineage) -> list[PositionedUpdate]:
    """The updates that learned from a rollout; those of other runs that learn from this log are in theirs."""
    position = rollout.position
    if position is None or rollout.failed:
        return []
    return [one for one in updates(log) if lineage.covers(one.fact, position, rollout.role)]


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
            case _:
                pass
    for place, fact in made.items():
        episode = episodes.get(place[0])
        position, reward = rewarded.get(place, (None, None))
        proposal = isinstance(fact, QuestionProposed)
        yield GenerationLineage(
            id=f"{place[0]}:{place[1]}",
            iteration=episode.iteration if episode else None,
            role="teacher" if proposal else "student",
            task=fact.seat if isinstance(fact, QuestionProposed) else fact.task,
            question=fact.parent if isinstance(fact, QuestionProposed) else fact.question,
            goalpost=episode.question if episode and episode.purpose == "guided" else None,
            sampled_by=fact.generation.policy,
            position=position,
            phase=reward.phase if reward else None,
            rewards=reward.rewards if reward else (),
            failed=place[0] in failed,
        )
