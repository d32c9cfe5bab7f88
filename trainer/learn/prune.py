"""Which weights a run may give up: a pure function of its log, and the removal of what the log says is given up.

Law: the first weights, each policy's newest, the last update's parent, and whatever play was last told to use or proved to
serve are never given up. Giving up is a fact in the very append of the update that makes weights dispensable; the files go
after it, and at the next start again, so that a crash in between leaves nothing behind for ever. Files that a policy of the
run did not make are not touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from events.facts.log import Event
from events.facts.types import (
    EvaluationFinished,
    Fact,
    IterationStarted,
    PolicyServed,
    PolicyUpdated,
    RunStarted,
    WeightsPruned,
)
from events.facts.values import Digest
from graph.settings.config import LearnSettings

KINDS: Final = ("run_started", "iteration_started", "policy_served", "policy_updated", "evaluation_finished", "weights_pruned")
"""Kinds of facts that decide."""


@dataclass
class _WeightsUse:
    """What a log says of its weights."""

    keep: LearnSettings
    first: set[Digest] = field(default_factory=set)
    made: dict[str, list[PolicyUpdated]] = field(default_factory=dict)
    """Updates of each policy, in order."""
    pruned: dict[Digest, None] = field(default_factory=dict)
    """Given up and not made again since, oldest first."""
    used: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    """What play last said that it uses."""
    scores: dict[Digest, float] = field(default_factory=dict)
    """pass@1 on the set by which the best is kept."""

    def add(self, fact: Fact) -> None:
        match fact:
            case RunStarted():
                self.first = set(fact.policies.values())
            case PolicyUpdated():
                self.made.setdefault(fact.policy, []).append(fact)
                self.pruned.pop(fact.digest, None)
            case WeightsPruned():
                self.pruned.update(dict.fromkeys(fact.digests))
            case IterationStarted():
                self.used["iteration"] = tuple(fact.policies.values())
            case PolicyServed():
                self.used[fact.role] = (fact.policy,)
            case EvaluationFinished() if fact.name == self.keep.keep_best:
                self.scores[fact.policy] = fact.pass_at[1]
            case _:
                pass

    def needed(self) -> set[Digest]:
        kept = self.first.union(*self.used.values())
        for updates in self.made.values():
            newest = list(dict.fromkeys(update.digest for update in reversed(updates)))
            # Play may be ahead of learning, and still has to take up what it is behind with.
            kept.update(newest[: max(self.keep.keep, self.keep.staleness + 1)], [updates[-1].parent])
            if self.keep.keep_every:
                kept.update(update.digest for update in updates if update.iteration % self.keep.keep_every == 0)
            # The weights of the newest iteration are examined after this, so that the best so far has to stay until then.
            scored = [update.digest for update in updates if update.digest in self.scores]
            kept.update([max(scored, key=self.scores.__getitem__)] if scored else [])
        return kept


def prunable_digests(events: Iterable[Event], update: PolicyUpdated, keep: LearnSettings) -> tuple[Digest, ...]:
    """The weights that may be given up with an update that is about to be appended, oldest first."""
    shelf = _fold(events, keep)
    shelf.add(update)
    made = dict.fromkeys(one.digest for updates in shelf.made.values() for one in updates)
    return tuple(digest for digest in made if digest not in shelf.needed() and digest not in shelf.pruned)


def pruned_digests(events: Iterable[Event], keep: LearnSettings) -> tuple[Digest, ...]:
    """All weights that a log has given up and not made again since, oldest first."""
    return tuple(_fold(events, keep).pruned)


def remove_weights(store: Path, digests: Iterable[Digest]) -> None:
    """Remove these weights, as far as they are there."""
    for digest in digests:
        shutil.rmtree(store / digest, ignore_errors=True)


def _fold(events: Iterable[Event], keep: LearnSettings) -> _WeightsUse:
    shelf = _WeightsUse(keep)
    for event in events:
        shelf.add(event.fact)
    return shelf
