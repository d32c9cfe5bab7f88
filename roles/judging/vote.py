"""Votes: which outputs most answers to a question agree on.

Guarantees: only an answer with an output for every input has a vote, so that failing alike never wins. Outputs are
equal where the verifier compares them as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sandbox.compare import outputs_match
from sandbox.runner import JobResult

Outputs = tuple[str, ...]
"""An output for each input of a question, as literals."""
Ties = Literal["none", "first"]
"""Who wins where the two largest groups are equal: nobody, or the one whose first answer came first."""


@dataclass(frozen=True)
class Vote:
    """The outcome of a vote."""

    attempts: int
    voters: int
    """Answers with an output for every input."""
    votes: int
    """Answers in the largest group; 0 where nobody votes."""
    runner_up: int
    """Answers in the second largest group; 0 where there is none."""
    label: Outputs | None
    """The winning outputs; None where nobody won."""


def outputs_of(result: JobResult) -> Outputs | None:
    """The outputs of a program; None if an input has none, or one that is no value."""
    if not all(run.status == "ok" and outputs_match(run.value, run.value) for run in result.runs):
        return None
    return tuple(run.value for run in result.runs)


def equal_outputs(one: Outputs, other: Outputs) -> bool:
    """Whether two programs gave equal outputs."""
    return one == other or all(map(outputs_match, one, other))


def count_votes(answers: Sequence[Outputs | None], ties: Ties = "none") -> Vote:
    """Count the votes of answers, in their order; None for an answer without a vote."""
    groups: dict[Outputs, int] = {}
    group_of: dict[Outputs, Outputs] = {}
    for outputs in answers:
        if outputs is None:
            continue
        if outputs not in group_of:
            group_of[outputs] = next((group for group in groups if equal_outputs(group, outputs)), outputs)
        groups[group_of[outputs]] = groups.get(group_of[outputs], 0) + 1
    # Stable: among equal groups the first one comes first.
    ranked = sorted(groups.items(), key=lambda group: -group[1])
    (label, votes), (_, runner_up) = [*ranked, (None, 0), (None, 0)][:2]
    won = label is not None and (votes > runner_up or ties == "first")
    return Vote(len(answers), sum(groups.values()), votes, runner_up, label if won else None)
