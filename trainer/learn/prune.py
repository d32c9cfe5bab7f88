"""Pruning: which weights a run no longer needs, by its log, and their removal.

Guarantees:
- Never pruned: the first weights, the newest of each policy, the last update's parent, what play last used or served.
- `WeightsPruned` is appended together with the update that makes weights dispensable; files are removed after it, and again at
  the next start, so that a crash in between leaves none behind.
- Only weights that a policy of the run made are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from events.facts.fact import Fact
from events.facts.log import Event
from events.facts.trial_facts import TrialLearned
from events.facts.types import EvaluationFinished, IterationStarted, PolicyServed, PolicyUpdated, RunStarted
from events.facts.values import Digest
from events.facts.weight_facts import WeightsPruned
from graph.settings.config import LearnSettings

KINDS: Final = (
    "run_started",
    "iteration_started",
    "policy_served",
    "policy_updated",
    "trial_learned",
    "evaluation_finished",
    "weights_pruned",
)
"""Event kinds that decide what is kept."""


@dataclass
class _WeightsUse:
    """What a log says of its weights, by folding its events."""

    keep: LearnSettings
    first: set[Digest] = field(default_factory=set)
    made: dict[str, list[PolicyUpdated]] = field(default_factory=dict)
    """Updates of each policy, in order."""
    tried: dict[Digest, None] = field(default_factory=dict)
    """Weights of trials, in order."""
    pruned: dict[Digest, None] = field(default_factory=dict)
    """Pruned and not made again since, oldest first."""
    used: dict[str, tuple[Digest, ...]] = field(default_factory=dict)
    """Weights that play last used: of the iteration, and served by role."""
    scores: dict[Digest, float] = field(default_factory=dict)
    """pass@1 on the question set `learn.keep_best`."""

    def add(self, fact: Fact) -> None:
        match fact:
            case RunStarted():
                self.first = set(fact.policies.values())
            case PolicyUpdated():
                self.made.setdefault(fact.policy, []).append(fact)
                self.pruned.pop(fact.digest, None)
            case TrialLearned():
                self.tried[fact.digest] = None
                self.pruned.pop(fact.digest, None)
            case WeightsPruned():
                self.pruned.update(dict.fromkeys(fact.digests))
            case IterationStarted():
                self.used["iteration"] = tuple(fact.policies.values())
            case PolicyServed():
                self.used[fact.role] = (fact.policy,)
            case EvaluationFinished() if fact.name == self.keep.keep_best:
                self.scores[fact.policy] = fact.pass_at[1]

    def needed(self) -> set[Digest]:
        kept = self.first.union(*self.used.values())
        for updates in self.made.values():
            newest = list(dict.fromkeys(update.digest for update in reversed(updates)))
            # Play may be a few updates behind, and still has to load them.
            kept.update(newest[: max(self.keep.keep, self.keep.staleness + 1)], [updates[-1].parent])
            if self.keep.keep_every:
                kept.update(update.digest for update in updates if update.iteration % self.keep.keep_every == 0)
            # The newest weights are evaluated later, so that the best so far has to stay until then.
            scored = [update.digest for update in updates if update.digest in self.scores]
            kept.update([max(scored, key=self.scores.__getitem__)] if scored else [])
        return kept


def prunable_digests(events: Iterable[Event], update: PolicyUpdated, keep: LearnSettings) -> tuple[Digest, ...]:
    """The weights that become dispensable with an update that is about to be appended, oldest first."""
    use = _fold(events, keep)
    use.add(update)
    made = dict.fromkeys(each.digest for updates in use.made.values() for each in updates)
    if update.policy != "teacher":
        # Only now is it known that no update makes the policy of them.
        made.update(use.tried)
    return tuple(digest for digest in made if digest not in use.needed() and digest not in use.pruned)


def pruned_digests(events: Iterable[Event], keep: LearnSettings) -> tuple[Digest, ...]:
    """All weights that a log has pruned and not made again since, oldest first."""
    return tuple(_fold(events, keep).pruned)


def remove_weights(store: Path, digests: Iterable[Digest]) -> None:
    """Remove the folders of these weights, where there are any."""
    for digest in digests:
        shutil.rmtree(store / digest, ignore_errors=True)


def _fold(events: Iterable[Event], keep: LearnSettings) -> _WeightsUse:
    use = _WeightsUse(keep)
    for event in events:
        use.add(event.fact)
    return use
