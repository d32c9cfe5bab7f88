"""One run: headlines, warnings, figures, proposals by seat, iterations and settings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from events.export.charts import run_figures
from events.facts.values import Seat
from events.projections.figures import IterationFigures, RunningMean, SeatFigures
from events.projections.run_summary import RunSummary
from events.reports.run_overview import solved_goalposts
from events.reports.shifts import sudden_shifts
from events.reports.training_warnings import diagnose
from events.text.phrases import SEAT_NOUNS, counted, number, plural, share
from events.web.pages.runs import latest_gap, planned
from events.web.view.page import Page, PageRequest
from events.web.view.settings import flat_settings

ROWS: Final = 20
"""Iterations on a page."""
RECENT: Final = 5
"""Iterations that count as lately."""


class Headline(NamedTuple):
    """One of the most important numbers."""

    name: str
    value: float | int | str | None
    note: str = ""
    form: str = "figure"
    """Template filter that formats it."""


@dataclass(frozen=True)
class IterationRow:
    """One iteration."""

    iteration: int
    episodes: int
    finished: int
    failed: int
    gap: float | None
    practice: float | None
    """Share of attempts at real data that passed."""
    reward: float | None
    """The student's mean reward."""
    seats: dict[Seat, tuple[int, int]]
    """Accepted and proposed questions."""
    tokens: int
    seconds: float
    began: datetime


class ProposalCounts(NamedTuple):
    """Counts of proposals by result."""

    proposed: int
    accepted: int
    rejected: dict[str, int]
    """By reason, the most frequent first."""


class SeatRow(NamedTuple):
    """One of the teacher's seats."""

    seat: Seat
    name: str
    """What it proposes, in the plural."""
    pass_rate: float | None
    aligned: float | None
    """Share of questions whose statement and program agree."""
    ever: ProposalCounts
    lately: ProposalCounts


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, summary = request.run, request.run.summary_so_far()
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
        "trials": summary.trials[: -ROWS - 1 : -1],
        "promoted": summary.promoted,
        "players": sorted(summary.players.figures.values(), key=lambda player: player.latest, reverse=True),
        "warnings": [warning._asdict() for warning in diagnose(summary)],
        "shifts": run.derived(sudden_shifts),
        "recent": RECENT,
        "signs": run.index.sign_counts(),
        "figures": run.derived(run_figures),
        "settings": run.derived(flat_settings),
        "versions": summary.started.versions if summary.started else {},
        "inputs": summary.started.inputs if summary.started else {},
        "commit": summary.started.commit if summary.started else None,
        "sources": summary.started.sources if summary.started else (),
    }
    return Page("run.html", "Overview", model)


def headlines(summary: RunSummary) -> list[Headline]:
    """The most important numbers of a run."""
    total = planned(summary)
    rows = [
        Headline("iterations", len(summary.iterations), f"of {total}" if total else ""),
        Headline("gap now", latest_gap(summary), "mean of the latest iteration", "number"),
        Headline("goalposts solved", len(solved_goalposts(summary)), f"of {len(summary.goalposts)}: an answer passed"),
    ]
    latest = {evaluation.name: evaluation for evaluation in summary.evaluations}
    for name, evaluation in latest.items():
        shares = ", ".join(f"@{k} {rate:.3f}" for k, rate in sorted(evaluation.pass_at.items())[1:])
        first = min(evaluation.pass_at, default=None)
        if first is not None:
            rows.append(Headline(f"{name} pass@{first}", evaluation.pass_at[first], shares, "number"))
    for fact in {calibration.name: calibration for calibration in summary.calibrations}.values():
        rate = f"accuracy {number(fact.accuracy, 3)}, answer rate {number(fact.answer_rate, 3)}, ECE {number(fact.ece, 3)}"
        rows.append(Headline(f"{fact.name} average precision", fact.ap_certainty, rate, "number"))
    rows += _vote_headlines(summary)
    if texts := sum(figures.texts for figures in summary.iterations.values()):
        rows.append(Headline("texts", texts, "given to learn"))
    if summary.trials:
        rows.append(Headline("trials", len(summary.trials), f"{len(summary.promotions)} of their students promoted"))
    rows += [Headline("lemmas", summary.lemmas, "accepted"), Headline("lifts", summary.lifts, "accepted")]
    if summary.open_questions:
        rows.append(Headline("open questions", summary.open_questions, "accepted"))
    speed = summary.tokens / summary.played if summary.played else None
    rows.append(Headline("tokens", summary.tokens, "" if speed is None else f"{speed:.0f} a second, learning included"))
    rows.append(Headline("student's answers", summary.samples.total, "evaluations left out"))
    resumed = f"resumed {summary.resumed} times" if summary.resumed else ""
    return [*rows, Headline("time played", summary.played, resumed, "seconds")]


def _vote_headlines(summary: RunSummary) -> list[Headline]:
    seats = [seat for figures in summary.iterations.values() for seat in figures.seats.values() if seat.votes.agreement.count]
    if not seats:
        return []
    whole = SeatFigures()
    for seat in seats:
        whole.add(seat)
    votes = whole.votes
    cast, labelled = counted(votes.agreement.count, "vote"), share(votes.labelled.value)
    how = f"of {cast}, {labelled} gave a label; agreement {share(votes.agreement.value)}"
    return [Headline("labels that are right", votes.right.value, how, "number")]


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
    iterations = summary.iterations.values()
    names = {name: None for figures in iterations for name, seat in figures.seats.items() if seat.proposed}
    return [_seat(name, [figures.seats[name] for figures in iterations if name in figures.seats]) for name in names]


def _seat(name: Seat, played: list[SeatFigures]) -> SeatRow:
    rates, aligned = (
        RunningMean(sum(mean.total for mean in means), sum(mean.count for mean in means))
        for means in ([seat.pass_rate for seat in played], [seat.aligned for seat in played])
    )
    return SeatRow(name, plural(SEAT_NOUNS[name]), rates.value, aligned.value, _proposals(played), _proposals(played[-RECENT:]))


def _proposals(played: list[SeatFigures]) -> ProposalCounts:
    rejected = sum((seat.rejected for seat in played), Counter[str]())
    proposed, accepted = sum(seat.proposed for seat in played), sum(seat.accepted for seat in played)
    return ProposalCounts(proposed, accepted, dict(rejected.most_common()))
