"""Optimizer steps as lines in columns, for a window of 100 characters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from events.facts.types import PolicyUpdated
from events.facts.values import Phase
from events.projections.figures import RunningMean, SeatFigures
from events.projections.run_summary import RunSummary, staleness
from events.text.phrases import MISSING

_WIDTHS: Final = {
    "it": -3,
    "policy": 7,
    "phase": 8,
    "reward": -6,
    "pass": -4,
    "KL old": -7,
    "KL ref": -7,
    "entropy": -7,
    "clip": -5,
    "grad": -5,
    "silent": -6,
    "stale": -5,
    "tokens/s": -8,
}
"""Widths of columns in characters, negative for numbers.

`pass`: the student's pass rate on the questions of the phase. `KL old`: distance from the policy that sampled. `KL ref`:
distance from the run's first weights, where the loss has that term. `stale`: updates since sampling.
"""


def step_header() -> str:
    """The line above the steps."""
    return _line(list(_WIDTHS))


def step_lines(summary: RunSummary, update: PolicyUpdated) -> Iterator[str]:
    """A line for each step of one of the summary's updates."""
    speed = next(speed for other, speed in zip(summary.updates, summary.speeds, strict=True) if other is update)
    for step in update.steps:
        metrics = step.metrics
        yield _line(
            [
                str(update.iteration),
                update.policy,
                step.phase,
                _formatted(step.reward, ".2f"),
                _formatted(_pass_rate(summary, update.iteration, step.phase), ".2f"),
                _formatted(metrics.get("sampling/kl_k3"), ".1e"),
                _formatted(metrics.get("kl"), ".1e"),
                _formatted(metrics.get("entropy"), ".3f"),
                _formatted(metrics.get("clip_ratio/region_mean"), ".3f"),
                _formatted(metrics.get("grad_norm"), ".2f"),
                f"{step.silent_groups}/{step.groups}",
                _formatted(staleness(summary, update), "d"),
                _formatted(speed, ",.0f"),
            ]
        )


def _line(cells: list[str]) -> str:
    columns = zip(cells, _WIDTHS.values(), strict=True)
    return " ".join(cell.ljust(width) if width > 0 else cell.rjust(-width) for cell, width in columns)


def _formatted(value: float | None, form: str) -> str:
    return MISSING if value is None else f"{value:{form}}"


def _pass_rate(summary: RunSummary, iteration: int, phase: Phase) -> float | None:
    figures = summary.iterations.get(iteration)
    if figures is None:
        return None
    seats = {"open": SeatFigures(), **figures.seats}
    rates: dict[Phase, RunningMean] = {
        "lemma": seats["easy"].pass_rate,
        "lift": seats["hard"].pass_rate,
        "open": seats["open"].pass_rate,
        "solve": figures.solve,
        "practice": figures.practice,
    }
    return rates[phase].value if phase in rates else None
