"""An iteration as a row of short texts: what was played, what was accepted, and what learning from it showed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from events.facts.values import OptimizerStep, Seat
from events.projections.figures import IterationFigures, SeatFigures
from events.projections.run_summary import RunSummary
from events.reports.training_warnings import LOGPROB_METRIC
from events.text.phrases import counted

COLUMNS: Final = (
    "it, failed, gap, best, lemma p, lemmas, lift p, lifts, open p, open, real-data, aligned, diversity, rejected, mismatch"
    ", zero-adv"
).split(", ")
"""Names of a row's texts; the first is the number of the iteration."""
SEATS: Final[tuple[Seat, ...]] = ("easy", "hard", "open")
REASONS_SHOWN: Final = 2
"""Reasons for which most proposals were rejected."""


def iteration_row(figures: IterationFigures, steps: Sequence[OptimizerStep]) -> list[str]:
    """A text for each of `COLUMNS`, empty where there is nothing to say; `steps` are those that learned from the iteration."""
    seats = all_seats([figures])
    easy, hard, opened = (figures.seats.get(seat, SeatFigures()) for seat in SEATS)
    mismatch = max((step.metrics.get(LOGPROB_METRIC, 0.0) for step in steps), default=None)
    return [
        str(figures.number),
        str(figures.failed or ""),
        share(figures.gap.value),
        share(figures.best_share.value),
        share(easy.pass_rate.value),
        f"{easy.accepted}/{easy.proposed}",
        share(hard.pass_rate.value),
        f"{hard.accepted}/{hard.proposed}",
        share(opened.pass_rate.value),
        f"{opened.accepted}/{opened.proposed}" if opened.proposed else "",
        share(figures.practice.value),
        share(seats.aligned.value),
        share(seats.diversity),
        " ".join(f"{reason} {count}" for reason, count in seats.rejected.most_common(REASONS_SHOWN)),
        "" if mismatch is None else f"{mismatch:.3f}",
        f"{sum(step.silent_groups for step in steps)}/{sum(step.groups for step in steps)}" if steps else "",
    ]


def all_seats(iterations: Iterable[IterationFigures]) -> SeatFigures:
    """The figures of all seats of the teacher together."""
    together = SeatFigures()
    for figures in iterations:
        for seat in figures.seats.values():
            together.add(seat)
    return together


def learned_steps(summary: RunSummary) -> dict[int, list[OptimizerStep]]:
    """The optimizer steps taken for each learned iteration."""
    steps: dict[int, list[OptimizerStep]] = {}
    for update in summary.updates:
        steps.setdefault(update.iteration, []).extend(update.steps)
    return steps


def accepted_text(summary: RunSummary, joint: str) -> str:
    """How many questions of each kind that was proposed were accepted, with `joint` between two kinds."""
    proposed = {seat for figures in summary.iterations.values() for seat in figures.seats}
    kinds = {
        "easy": ("lemma", summary.lemmas),
        "hard": ("lift", summary.lifts),
        "open": ("open question", summary.open_questions),
    }
    return joint.join(counted(count, kind) for seat, (kind, count) in kinds.items() if seat in proposed) or "no questions"


def share(value: float | None) -> str:
    """A share, 0 to 1, with two digits; empty if there is none."""
    return "" if value is None else f"{value:.2f}"
