"""One policy: where it comes from, what fed it, how its steps went, and what was played and evaluated with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from events.facts.digests import SHORT
from events.facts.log import ReadableLog
from events.facts.types import EvaluationFinished, PolicyServed, PolicyUpdated, RewardGiven
from events.facts.values import Digest, Phase, QuestionId, Role
from events.projections.lineage import consumed
from events.projections.run_summary import RunSummary
from events.web.pages.policies import mean_reward, played_with
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest
from events.web.view.run_handle import RunHandle

ROWS: Final = 50
"""Rewards on one page."""
PROOFS: Final = 20
"""Servings that are shown."""
_ID = 64
"""Hex digits of a digest."""


class ConsumedReward(NamedTuple):
    """Rewarded completions of one prompt, which the policy learned from."""

    position: int
    """Of the reward."""
    phase: Phase
    role: Role
    task: str
    stream: str
    version: int
    """Of the completions."""
    question: QuestionId | None
    """What was asked; None of a proposal, and where the index does not know it yet."""
    iteration: int | None
    completions: int
    reward: float
    """Mean."""
    best: float


class ServingRow(NamedTuple):
    """A proof that a role's model serves the policy."""

    position: int
    role: Role
    difference: float | None


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, summary = request.run, request.run.summary()
    digest = _digest(summary, request.params["digest"])
    update = next((found for found in reversed(summary.updates) if found.digest == digest), None)
    fed = list(_fed(run, update, request.integer("after"))) if update and update.source == 0 else []
    model: dict[str, Any] = {
        "digest": digest,
        "learned": update,
        "reward": mean_reward(update) if update else None,
        "sources": summary.started.sources if summary.started else (),
        "children": [found.digest for found in summary.updates if found.parent == digest],
        "fed": fed[:ROWS],
        "more": fed[ROWS - 1].position if len(fed) > ROWS else None,
        "served": list(_served(run.log, digest, update)),
        "played": _ranges(played_with(summary, digest)),
        "evaluations": [_evaluation(found) for found in summary.evaluations if found.policy == digest],
        "roles": [role for role, found in summary.policies.items() if found == digest],
    }
    return Page("policy.html", f"Policy {digest[:SHORT]}", model)


def _digest(summary: RunSummary, prefix: str) -> Digest:
    started = summary.started.policies.values() if summary.started else ()
    known = dict.fromkeys([*started, *(update.digest for update in summary.updates)])
    found = [digest for digest in known if digest.startswith(prefix)]
    if len(found) == 1 or prefix in found:
        return Digest(prefix) if prefix in found else found[0]
    which = f"{len(found)} policies have digests that start" if found else "No policy of this run has a digest that starts"
    raise NotFound(f"{which} with {prefix[:_ID]!r}; the list of policies has them all.")


def _fed(run: RunHandle, update: PolicyUpdated, after: int | None) -> Iterator[ConsumedReward]:
    """What the update consumed, one row more than a page has."""
    log, index = run.log, run.index
    for event in islice(consumed(log, update, after=after or 0), ROWS + 1):
        fact = event.fact
        assert isinstance(fact, RewardGiven)
        made = index.answers_at(event.stream, fact.of) if fact.role == "student" else None
        yield ConsumedReward(
            event.position,
            fact.phase,
            fact.role,
            fact.task,
            event.stream,
            fact.of,
            made.question if made else None,
            made.iteration if made else None,
            len(fact.rewards),
            sum(fact.rewards) / len(fact.rewards) if fact.rewards else 0.0,
            max(fact.rewards, default=0.0),
        )


def _served(log: ReadableLog, digest: Digest, update: PolicyUpdated | None) -> Iterator[ServingRow]:
    after = update.until if update and update.source == 0 else 0
    for event in log.read(after=after, kinds=("policy_served",), limit=PROOFS):
        if isinstance(event.fact, PolicyServed) and event.fact.policy == digest:
            yield ServingRow(event.position, event.fact.role, event.fact.difference)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers that follow one another, as first and last."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def _evaluation(found: EvaluationFinished) -> dict[str, Any]:
    solved = sum(count > 0 for count in found.successes.values())
    return {
        "name": found.name,
        "iteration": found.iteration,
        "questions": len(found.successes),
        "solved": solved,
        "attempts": found.attempts,
        "pass_at": found.pass_at,
    }
