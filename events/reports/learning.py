"""Learning as lines for people: one for each optimizer step, in columns, readable in a window of 100.

Law: everything comes from the summary of a log, so that the trainer, the live display and the trace say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from events.facts.types import PolicyUpdated
from events.facts.values import Phase
from events.projections.run_summary import RunSummary, SeatFigures, staleness

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
"""Columns and their widths, below 0 for numbers. `pass`: the student's pass rate on what the phase is about. `KL old`: from the
policy that sampled, `KL ref`: from the run's first weights, where the loss has that term. `stale`: updates since sampling."""


def step_header() -> str:
    """What stands above the lines."""
    return _line(list(_WIDTHS))


def step_lines(summary: RunSummary, update: PolicyUpdated) -> Iterator[str]:
    """The steps of one of the summary's updates."""
    speed = next(speed for known, speed in zip(summary.updates, summary.speeds, strict=True) if known is update)
    for step in update.steps:
        metrics = step.metrics
        yield _line(
            [
                str(update.iteration),
                update.policy,
                step.phase,
                _number(step.reward, ".2f"),
                _number(_pass_rate(summary, update.iteration, step.phase), ".2f"),
                _number(metrics.get("sampling/kl_k3"), ".1e"),
                _number(metrics.get("kl"), ".1e"),
                _number(metrics.get("entropy"), ".3f"),
                _number(metrics.get("clip_ratio/region_mean"), ".3f"),
                _number(metrics.get("grad_norm"), ".2f"),
                f"{step.silent_groups}/{step.groups}",
                _number(staleness(summary, update), "d"),
                _number(speed, ",.0f"),
            ]
        )


def _line(cells: list[str]) -> str:
    padded = (
        cell.ljust(width) if width > 0 else cell.rjust(-width) for cell, width in zip(cells, _WIDTHS.values(), strict=True)
    )
    return " ".join(padded)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _pass_rate(summary: RunSummary, iteration: int, phase: Phase) -> float | None:
    played = summary.iterations.get(iteration)
    if played is None:
        return None
    seats = {"open": SeatFigures(), **played.seats}
    known = {
        "lemma": seats["easy"].pass_rate,
        "lift": seats["hard"].pass_rate,
        "open": seats["open"].pass_rate,
        "solve": played.solve,
        "practice": played.practice,
    }
    return known[phase].value
