"""The lineage of weights: what each came from, learned from, and was used for."""

from __future__ import annotations

from typing import Final, NamedTuple

from events.facts.types import PolicyUpdated
from events.facts.values import Digest, Role
from events.projections.run_summary import RunSummary
from events.reports.run_overview import mean_reward
from events.web.view.page import Page, PageRequest

ROWS: Final = 60
"""Updates on one page."""


class PolicyRow(NamedTuple):
    """Weights that an update made, or that a run started with."""

    digest: Digest
    parent: Digest | None
    policy: str
    """`shared`, `teacher` or `student`; several where a run started with the same weights for them."""
    iteration: int
    """Iteration that they learned from; 0, and no parent, for weights that a run started with."""
    step: int
    groups: int
    silent_groups: int
    samples: int
    tokens: int
    reward: float | None
    played: tuple[int, int] | None
    """First and last iteration that was played with them."""
    serving: tuple[Role, ...]
    """Roles that play with them now."""
    evaluations: int


def page(request: PageRequest) -> Page:
    """Make the page."""
    summary = request.run.summary()
    updates, end = summary.updates, request.integer("until", len(summary.updates)) or 0
    part = updates[max(0, end - ROWS) : end]
    lines = _lines(summary, part)
    if end <= ROWS:
        lines = _first(summary) + lines
    model = {
        "lines": lines[::-1],
        "updates": len(updates),
        "earlier": end - ROWS if end > ROWS else None,
        "later": min(end + ROWS, len(updates)) if end < len(updates) else None,
    }
    return Page("policies.html", "Policies", model)


def _first(summary: RunSummary) -> list[PolicyRow]:
    started = summary.started.policies if summary.started else {}
    learning = {update.policy for update in summary.updates}
    lines = []
    for digest in dict.fromkeys(started.values()):
        roles = [role for role, weights in started.items() if weights == digest]
        names = "shared" if "shared" in learning else ", ".join(roles)
        lines.append(PolicyRow(digest, None, names, 0, 0, 0, 0, 0, 0, None, *_use(summary, digest)))
    return lines


def _lines(summary: RunSummary, updates: list[PolicyUpdated]) -> list[PolicyRow]:
    return [
        PolicyRow(
            update.digest,
            update.parent,
            update.policy,
            update.iteration,
            update.step,
            sum(step.groups for step in update.steps),
            sum(step.silent_groups for step in update.steps),
            sum(step.samples for step in update.steps),
            sum(step.tokens for step in update.steps),
            mean_reward(update),
            *_use(summary, update.digest),
        )
        for update in updates
    ]


def _use(summary: RunSummary, digest: Digest) -> tuple[tuple[int, int] | None, tuple[Role, ...], int]:
    played = played_with(summary, digest)
    serving = tuple(role for role, weights in summary.policies.items() if weights == digest)
    evaluations = sum(evaluation.policy == digest for evaluation in summary.evaluations)
    return (played[0], played[-1]) if played else None, serving, evaluations


def played_with(summary: RunSummary, digest: Digest) -> list[int]:
    """Iterations in which a role played with the weights."""
    return [number for number, figures in summary.iterations.items() if digest in figures.policies.values()]
