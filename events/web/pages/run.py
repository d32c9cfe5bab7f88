"""One run: where it stands, its curves, its iterations, what the teacher was refused, how healthy it is, its settings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from events.export.charts import figures
from events.facts.values import Seat
from events.projections.run_summary import IterationFigures, RunningMean, RunSummary, SeatFigures
from events.reports.run_overview import solved_goalposts
from events.reports.shifts import sudden_shifts
from events.reports.training_warnings import diagnose
from events.web.pages.runs import latest_gap, planned
from events.web.view.page import Page, PageRequest
from events.web.view.settings import flat_settings

ROWS: Final = 20
"""Iterations on one page."""
RECENT: Final = 5
"""Iterations that "lately" means."""
PROPOSALS: Final[dict[Seat, str]] = {"easy": "lemmas", "hard": "lifts", "open": "open questions"}


class Headline(NamedTuple):
    """A figure that matters most."""

    name: str
    value: float | int | str | None
    note: str = ""
    form: str = "figure"
    """The filter that writes it."""


@dataclass(frozen=True)
class IterationRow:
    """One iteration."""

    iteration: int
    episodes: int
    finished: int
    failed: int
    gap: float | None
    practice: float | None
    """Share of practice answers that passed."""
    reward: float | None
    """The student's, on average."""
    seats: dict[Seat, tuple[int, int]]
    """Accepted and proposed questions of each of the teacher's seats."""
    tokens: int
    seconds: float
    began: datetime


class ProposalCounts(NamedTuple):
    """What became of some proposals."""

    proposed: int
    accepted: int
    rejected: dict[str, int]
    """By reason, the most frequent first."""


class SeatRow(NamedTuple):
    """One of the teacher's seats."""

    seat: Seat
    name: str
    """What it proposes."""
    pass_rate: float | None
    """Over the questions that were measured."""
    aligned: float | None
    """Share of questions whose statement and program agree."""
    ever: ProposalCounts
    lately: ProposalCounts
    """The same in the latest iterations."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, summary = request.run, request.run.summary()
    before = request.integer("before") or len(summary.iterations) + 1
    lines = [_iteration(figures, summary) for figures in summary.iterations.values() if figures.number < before]
    model = {
        "name": run.name,
        "state": run.state,
        "position": run.position,
        "began": summary.began,
        "latest": summary.latest,
        "played": summary.played,
        "headlines": headlines(summary),
        "iterations": lines[: -ROWS - 1 : -1],
        "earlier": lines[-ROWS].iteration if len(lines) > ROWS else None,
        "seats": run.derived(_seats),
        "warnings": [symptom._asdict() for symptom in diagnose(summary)],
        "shifts": run.derived(sudden_shifts),
        "recent": RECENT,
        "signs": run.index.sign_counts(),
        "figures": run.derived(figures),
        "settings": run.derived(flat_settings),
        "versions": summary.started.versions if summary.started else {},
        "inputs": summary.started.inputs if summary.started else {},
        "commit": summary.started.commit if summary.started else None,
        "sources": summary.started.sources if summary.started else (),
    }
    return Page("run.html", "Overview", model)


def headlines(summary: RunSummary) -> list[Headline]:
    """Where the run stands, in some numbers."""
    whole = planned(summary)
    rows = [
        Headline("iterations", len(summary.iterations), f"of {whole}" if whole else ""),
        Headline("gap now", latest_gap(summary), "mean of the latest iteration", "number"),
        Headline("goalposts solved", len(solved_goalposts(summary)), f"of {len(summary.goalposts)}: an answer passed"),
    ]
    latest = {found.name: found for found in summary.evaluations}
    for name, found in latest.items():
        shares = ", ".join(f"@{k} {rate:.3f}" for k, rate in sorted(found.pass_at.items())[1:])
        first = min(found.pass_at, default=None)
        if first is not None:
            rows.append(Headline(f"{name} pass@{first}", found.pass_at[first], shares, "number"))
    rows += [Headline("lemmas", summary.lemmas, "accepted"), Headline("lifts", summary.lifts, "accepted")]
    if summary.open_questions:
        rows.append(Headline("open questions", summary.open_questions, "accepted"))
    speed = summary.tokens / summary.played if summary.played else None
    rows.append(Headline("tokens", summary.tokens, "" if speed is None else f"{speed:.0f} a second, learning included"))
    rows.append(Headline("student's answers", summary.samples.total, "evaluations left out"))
    rows.append(
        Headline("time played", summary.played, f"resumed {summary.resumed} times" if summary.resumed else "", "seconds")
    )
    return rows


def _iteration(figures: IterationFigures, summary: RunSummary) -> IterationRow:
    return IterationRow(
        figures.number,
        figures.episodes,
        figures.finished,
        figures.failed,
        figures.gap.value,
        figures.practice.value,
        figures.student_reward.value,
        {name: (seat.accepted, seat.proposed) for name, seat in figures.seats.items() if seat.proposed},
        figures.tokens,
        ((figures.ended or summary.latest or figures.began) - figures.began).total_seconds(),
        figures.began,
    )


def _seats(summary: RunSummary) -> list[SeatRow]:
    seats = {name: None for figures in summary.iterations.values() for name, seat in figures.seats.items() if seat.proposed}
    return [
        _seat(name, [figures.seats[name] for figures in summary.iterations.values() if name in figures.seats]) for name in seats
    ]


def _seat(name: Seat, played: list[SeatFigures]) -> SeatRow:
    rates, aligned = (
        RunningMean(sum(mean.total for mean in means), sum(mean.count for mean in means))
        for means in ([seat.pass_rate for seat in played], [seat.aligned for seat in played])
    )
    return SeatRow(name, PROPOSALS[name], rates.value, aligned.value, _proposals(played), _proposals(played[-RECENT:]))


def _proposals(played: list[SeatFigures]) -> ProposalCounts:
    rejected = sum((seat.rejected for seat in played), Counter[str]())
    return ProposalCounts(
        sum(seat.proposed for seat in played), sum(seat.accepted for seat in played), dict(rejected.most_common())
    )
