"""Lineage: what an update of a policy learned from, for the trainer, the viewer and the commands.

An update consumes the rewards in the range of positions that it names, of the roles that its policy plays, and the given texts
where it plays the student, except those of episodes that failed, and of the student's those of sets that were tried and not
promoted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from typing import Final, Literal

from events.facts.certainty_facts import TextGiven
from events.facts.log import Event, ReadableLog
from events.facts.types import EpisodeFailed, PolicyUpdated, RewardGiven
from events.facts.values import Digest, Role

PolicyName = Literal["shared", "teacher", "student"]
"""Name of a policy; its stream is `policy/<name>`."""
POLICY_ROLES: Final[dict[PolicyName, tuple[Role, ...]]] = {
    "shared": ("teacher", "student"),
    "teacher": ("teacher",),
    "student": ("student",),
}
"""Roles whose completions a policy learns from."""


def learnable_events(events: Iterable[Event]) -> list[Event]:
    """The rewards and given texts among events of whole episodes, except those of episodes that failed."""
    listed = list(events)
    failed = {event.stream for event in listed if isinstance(event.fact, EpisodeFailed)}
    return [event for event in listed if isinstance(event.fact, RewardGiven | TextGiven) and event.stream not in failed]


def consumed(log: ReadableLog, update: PolicyUpdated, *, after: int = 0) -> Iterator[Event]:
    """The rewards behind position `after` that an update consumed, in order, from its own log or the source that it names."""
    failed = {event.stream for event in _between(log, update.after, update.until, ("episode_failed",))}
    for event in _between(log, max(update.after, after), update.until, ("reward_given",)):
        if event.stream not in failed and isinstance(event.fact, RewardGiven) and _learns_from(update, event):
            yield event


def consumed_texts(log: ReadableLog, update: PolicyUpdated) -> list[TextGiven]:
    """The given texts that an update consumed, in order, from its own log or the source that it names."""
    if "student" not in _roles(update):
        return []
    events = learnable_events(_between(log, update.after, update.until, ("text_given", "episode_failed")))
    return [event.fact for event in events if isinstance(event.fact, TextGiven)]


def consuming_weights(updates: Iterable[PolicyUpdated], events: Iterable[Event]) -> list[Digest]:
    """Weights whose update consumed a reward or a given text among these events of episodes, in the order of the updates."""
    learned = learnable_events(events)
    return [update.digest for update in updates if any(covers(update, event) for event in learned)]


def covers(update: PolicyUpdated, event: Event) -> bool:
    """Whether an update consumed a reward or a given text of its own log, if the episode did not fail."""
    return update.source == 0 and update.after < event.position <= update.until and _learns_from(update, event)


def _learns_from(update: PolicyUpdated, event: Event) -> bool:
    """Whether an update's policy learns from a reward or a given text; of a set that was tried, the student if promoted."""
    if not isinstance(event.fact, RewardGiven):
        return "student" in _roles(update)
    role, number = event.fact.role, event.fact.set
    return role in _roles(update) and (role == "teacher" or number in (0, update.set))


def _roles(update: PolicyUpdated) -> tuple[Role, ...]:
    return POLICY_ROLES.get(update.policy, ())  # type: ignore[call-overload, no-any-return]  # old logs hold any text


def _between(log: ReadableLog, after: int, until: int, kinds: Collection[str]) -> Iterator[Event]:
    return takewhile(lambda event: event.position <= until, log.read(after=after, kinds=kinds))
