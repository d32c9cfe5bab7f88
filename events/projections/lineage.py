"""What an update of a policy learned from: the one rule that the trainer, the viewer and the commands share.

An update consumes the rewards at the positions that it names, of the roles that its policy plays, but for episodes that failed:
an episode that broke off contributes nothing, whatever of it was rewarded before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from typing import Final, Literal

from events.facts.log import Event, ReadableLog
from events.facts.types import EpisodeFailed, PolicyUpdated, RewardGiven
from events.facts.values import Role

PolicyName = Literal["shared", "teacher", "student"]
"""What a policy is called; its stream is `policy/<name>`."""
POLICY_ROLES: Final[dict[PolicyName, tuple[Role, ...]]] = {
    "shared": ("teacher", "student"),
    "teacher": ("teacher",),
    "student": ("student",),
}
"""Whose completions a policy learns from."""


def learnable_rewards(events: Iterable[Event]) -> list[Event]:
    """The rewards among the events of an iteration that count: those of episodes that did not fail."""
    found = list(events)
    failed = {event.stream for event in found if isinstance(event.fact, EpisodeFailed)}
    return [event for event in found if isinstance(event.fact, RewardGiven) and event.stream not in failed]


def consumed(log: ReadableLog, update: PolicyUpdated, *, after: int = 0) -> Iterator[Event]:
    """The rewards that an update learned from, in order.

    Args:
        log: where it was played: the update's own log, or the source that it names.
        update: the update.
        after: leave out those up to this position.
    """
    failed = {event.stream for event in _between(log, update.after, update.until, ("episode_failed",))}
    for event in _between(log, max(update.after, after), update.until, ("reward_given",)):
        if event.stream not in failed and isinstance(event.fact, RewardGiven) and event.fact.role in _roles(update):
            yield event


def covers(update: PolicyUpdated, position: int, role: Role) -> bool:
    """Whether an update learned from what its own log rewards at a position, unless that is of a failed episode."""
    return update.source == 0 and update.after < position <= update.until and role in _roles(update)


def _roles(update: PolicyUpdated) -> tuple[Role, ...]:
    return POLICY_ROLES.get(update.policy, ())  # type: ignore[call-overload, no-any-return]  # old logs hold any text


def _between(log: ReadableLog, after: int, until: int, kinds: Collection[str]) -> Iterator[Event]:
    return takewhile(lambda event: event.position <= until, log.read(after=after, kinds=kinds))
