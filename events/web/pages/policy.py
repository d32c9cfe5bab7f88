"""Weights: their parent, the rewards that they learned from, their steps, and what was played and evaluated with them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from events.facts.digests import SHORT, find_digest
from events.facts.errors import BadInput
from events.facts.log import ReadableLog
from events.facts.types import EvaluationFinished, PolicyServed, PolicyUpdated, RewardGiven
from events.facts.values import Digest, Phase, QuestionId, Role
from events.projections.lineage import consumed as consumed_rewards
from events.projections.lineage import consumed_texts
from events.projections.run_summary import RunSummary
from events.reports.run_overview import mean_reward
from events.web.pages.policies import played_with
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest
from events.web.view.run_handle import RunHandle

ROWS: Final = 50
"""Rewards on a page."""
SERVINGS: Final = 20
"""Weight-sync checks that are read."""


class ConsumedReward(NamedTuple):
    """A reward that the update consumed: the mean and the best of the completions of one prompt."""

    position: int
    phase: Phase
    role: Role
    task: str
    stream: str
    version: int
    """Version of the completions."""
    question: QuestionId | None
    """Question that was asked; None for a proposal, and where the index does not have it yet."""
    iteration: int | None
    completions: int
    reward: float
    best: float


class ServingRow(NamedTuple):
    """A weight-sync check: the role's model server has these weights."""

    position: int
    role: Role
    difference: float | None


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, summary = request.run, request.run.summary()
    digest = _digest(summary, request.params["digest"])
    update = next((update for update in reversed(summary.updates) if update.digest == digest), None)
    consumed = list(_consumed(run, update, request.integer("after"))) if update and update.source == 0 else []
    model: dict[str, Any] = {
        "digest": digest,
        "learned": update,
        "reward": mean_reward(update) if update else None,
        "sources": summary.started.sources if summary.started else (),
        "children": [child.digest for child in summary.updates if child.parent == digest],
        "consumed": consumed[:ROWS],
        "texts": len(consumed_texts(run.log, update)) if update and update.source == 0 else 0,
        "more": consumed[ROWS - 1].position if len(consumed) > ROWS else None,
        "served": list(_served(run.log, digest, update)),
        "played": _ranges(played_with(summary, digest)),
        "evaluations": [_evaluation(evaluation) for evaluation in summary.evaluations if evaluation.policy == digest],
        "roles": [role for role, weights in summary.policies.items() if weights == digest],
    }
    return Page("policy.html", f"Policy {digest[:SHORT]}", model)


def _digest(summary: RunSummary, prefix: str) -> Digest:
    started = summary.started.policies.values() if summary.started else ()
    try:
        return find_digest(prefix, [*started, *(update.digest for update in summary.updates)], "this run")
    except BadInput as error:
        raise NotFound(str(error)) from error


def _consumed(run: RunHandle, update: PolicyUpdated, after: int | None) -> Iterator[ConsumedReward]:
    """Rewards that the update consumed, one more than a page has."""
    log, index = run.log, run.index
    for event in islice(consumed_rewards(log, update, after=after or 0), ROWS + 1):
        fact = event.fact
        assert isinstance(fact, RewardGiven)
        answers = index.answers_at(event.stream, fact.of) if fact.role == "student" else None
        yield ConsumedReward(
            event.position,
            fact.phase,
            fact.role,
            fact.task,
            event.stream,
            fact.of,
            answers.question if answers else None,
            answers.iteration if answers else None,
            len(fact.rewards),
            sum(fact.rewards) / len(fact.rewards) if fact.rewards else 0.0,
            max(fact.rewards, default=0.0),
        )


def _served(log: ReadableLog, digest: Digest, update: PolicyUpdated | None) -> Iterator[ServingRow]:
    after = update.until if update and update.source == 0 else 0
    for event in log.read(after=after, kinds=("policy_served",), limit=SERVINGS):
        if isinstance(event.fact, PolicyServed) and event.fact.policy == digest:
            yield ServingRow(event.position, event.fact.role, event.fact.difference)


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers, as first and last."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def _evaluation(fact: EvaluationFinished) -> dict[str, Any]:
    return {
        "name": fact.name,
        "iteration": fact.iteration,
        "questions": len(fact.successes),
        "solved": sum(count > 0 for count in fact.successes.values()),
        "attempts": fact.attempts,
        "pass_at": fact.pass_at,
    }
