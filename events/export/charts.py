"""The figures of a run as plain data: what a person who trains a model by reinforcement wants on one page, in that order.

Law: a pure function of the summary, hence of the log; metrics are taken by the names that `events.export.metrics` gives them.
A figure without data is left out. It draws nothing: `events.web.rendering.svg` and `events.export.plots` do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Final, NamedTuple

from events.export.metrics import iteration_metrics, update_metrics
from events.facts.types import EvaluationFinished, Reason
from events.facts.values import Seat
from events.projections.run_summary import IterationFigures, RunSummary
from events.pure.estimators import CONFIDENCE, ConfidenceInterval, pass_at_k_interval

UNIT: Final = (0.0, 1.0)
"""Limits of shares."""
SEATS: Final[Mapping[Seat, str]] = {"easy": "lemmas", "hard": "lifts", "open": "open questions"}
"""What a seat writes."""
REASONS: Final[Mapping[str, tuple[Reason, ...]]] = {
    "malformed": ("malformed",),
    "broken or unsafe": ("unsafe", "broken", "nondeterministic"),
    "degenerate": ("degenerate",),
    "not novel": ("not_novel",),
    "too easy": ("too_easy",),
    "too hard": ("too_hard",),
}
"""Reasons of rejection, by the name of their line."""
BOOTSTRAP_DRAWS: Final = 2_000
"""Resamples of an interval that is looked at."""
_LARGE: Final = 1e300
"""Numbers beyond it cannot be drawn: their differences are not finite."""
_SLUG: Final = 80
"""Characters of a figure's name."""
_BANDS: Final = f"bands: {CONFIDENCE:.0%} confidence, over questions and answers"


class Series(NamedTuple):
    """A line in a figure."""

    name: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    """x, low and high of each point, where there is one."""


class Figure(NamedTuple):
    """Lines that share their axes."""

    name: str
    """Letters, digits and hyphens, so that it can name a file or a place in a page."""
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    limits: tuple[float, float] | None = None
    """Of the vertical axis; None takes them from the points."""
    note: str = ""


class _MetricFigure(NamedTuple):
    """A figure of metrics."""

    name: str
    title: str
    y: str
    metrics: Mapping[str, str]
    """By the line's name; of an update, each policy has such a line."""
    limits: tuple[float, float] | None = None


def _by_seat(metric: str) -> dict[str, str]:
    return {said: f"teacher/{seat}/{metric}" for seat, said in SEATS.items()}


_PASS_RATE: Final = _MetricFigure(
    "pass-rate", "Pass rate of what is asked", "share passed", _by_seat("pass_rate") | {"practice": "practice/pass_rate"}, UNIT
)
_TEACHER: Final = (
    _MetricFigure("acceptance", "Proposals accepted", "share accepted", _by_seat("accepted"), UNIT),
    _MetricFigure("diversity", "Diversity of questions", "1 - mean largest similarity", _by_seat("diversity"), UNIT),
    _MetricFigure("alignment", "Statement and program agree", "share aligned", _by_seat("aligned"), UNIT),
)
_LENGTH: Final = _MetricFigure(
    "length", "Length of completions", "tokens", {role: f"{role}/completions/mean_length" for role in ("student", "teacher")}
)
_LEARNING: Final = (
    _MetricFigure("entropy", "Entropy", "nats a token", {"": "entropy"}),
    _MetricFigure("kl", "Distance from the policy that sampled", "KL, nats a token", {"": "sampling/kl_k3"}),
    _MetricFigure("kl-reference", "Distance from the first weights", "KL, nats a token", {"": "kl"}),
    _MetricFigure("clipped", "Tokens clipped", "share clipped", {"": "clip_ratio/region_mean"}),
    _MetricFigure("gradient", "Gradient norm", "norm before clipping", {"": "grad_norm"}),
    _MetricFigure("silent", "Groups without signal", "share silent", {"": "frac_silent_groups"}, UNIT),
)


def figures(summary: RunSummary) -> list[Figure]:
    """The figures of a run, those with data."""
    ended = [iteration for iteration in summary.iterations.values() if iteration.ended is not None]
    rows = [(float(iteration.number), iteration_metrics(iteration)) for iteration in ended]
    updates = [(update.policy, float(update.iteration), update_metrics(update)) for update in summary.updates]
    drawn = [
        _gap(summary, rows),
        *_evaluated(summary.evaluations),
        _of(_PASS_RATE, rows),
        _of(_TEACHER[0], rows),
        _rejections(ended),
        *(_of(wanted, rows) for wanted in _TEACHER[1:]),
        _rewards(ended),
        _of(_LENGTH, rows),
        *(_learning(wanted, updates) for wanted in _LEARNING),
        _speed(summary, ended),
    ]
    return [figure._replace(series=series) for figure in drawn if (series := tuple(one for one in figure.series if one.points))]


def compare_figures(runs: Mapping[str, Sequence[Figure]]) -> list[Figure]:
    """Figures of several runs as others: one for each line, with a line for each run, in this order, empty if it has none."""
    found: dict[tuple[str, str], Figure] = {}
    known: dict[tuple[str, str], dict[str, Series]] = {}
    for run, its in runs.items():
        for figure in its:
            for series in figure.series:
                key = figure.name, series.name
                found.setdefault(key, figure)
                known.setdefault(key, {})[run] = series._replace(name=run)
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in found))}
    return [
        figure._replace(
            name=_slug(f"{name}-{line}"),
            title=f"{figure.title}: {line}",
            series=tuple(known[name, line].get(run, Series(run, ())) for run in runs),
        )
        for (name, line), figure in sorted(found.items(), key=lambda item: order[item[0][0]])
    ]


def drawable(series: Series) -> Series:
    """What of a line can be drawn: finite numbers, in the order of x."""
    points = sorted((float(x), float(y)) for x, y in series.points if _drawable(x, y))
    return Series(series.name, tuple(points), tuple(sorted(edge for edge in series.band if _drawable(*edge))))


def _drawable(*values: float) -> bool:
    return all(isfinite(value) and abs(value) < _LARGE for value in values)


def axis_range(lines: Iterable[Series], limits: tuple[float, float] | None) -> tuple[float, float]:
    """What a vertical axis must show: all points and bands, the limits, and 0 where it is not far."""
    known = [*(limits or ())]
    for line in lines:
        known += [y for _, y in line.points] + [edge for _, *edges in line.band for edge in edges]
    low, high = min(known), max(known)
    if limits is None and 0 < low <= high / 2:
        return 0.0, high
    return (low, 0.0) if limits is None and low / 2 <= high < 0 else (low, high)


def spread_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near those wanted, which grow, between low and high and at least a gap apart, where there is room for that."""
    found: list[float] = []
    for place, want in enumerate(wanted):
        least = max([low, *(one + gap for one in found[-1:])])
        found.append(min(max(want, least), high - gap * (len(wanted) - 1 - place)))
    for place in range(len(found) - 2, -1, -1):
        found[place] = min(found[place], found[place + 1] - gap)
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_SLUG]


_Rows = list[tuple[float, dict[str, float | None]]]


def _line(name: str, points: Iterable[tuple[float, float | None]]) -> Series:
    return Series(name, tuple((float(x), float(y)) for x, y in points if y is not None))


def _of(wanted: _MetricFigure, rows: _Rows) -> Figure:
    series = (_line(name, ((x, values.get(metric)) for x, values in rows)) for name, metric in wanted.metrics.items())
    return Figure(wanted.name, wanted.title, "iteration", wanted.y, tuple(series), wanted.limits)


def _gap(summary: RunSummary, rows: _Rows) -> Figure:
    evaluated = _series("evaluated", [one for one in summary.evaluations if one.name == "goalposts"], 1)
    points = tuple((x, 1 - y) for x, y in evaluated.points)
    band = tuple((x, 1 - high, 1 - low) for x, low, high in evaluated.band)
    series = _line("while playing", ((x, values["gap"]) for x, values in rows)), Series("evaluated", points, band)
    return Figure("gap", "Gap to the goalposts", "iteration", "mean gap", series, UNIT, _BANDS if band else "")


def _evaluated(evaluations: Iterable[EvaluationFinished]) -> Iterator[Figure]:
    """The smallest and the largest k: those between lie between."""
    sets: dict[str, list[EvaluationFinished]] = {}
    for evaluation in evaluations:
        sets.setdefault(evaluation.name, []).append(evaluation)
    for name, found in sets.items():
        known = {k for evaluation in found for k in evaluation.pass_at}
        series = tuple(_series(f"pass@{k}", found, k) for k in sorted({min(known), max(known)} if known else set()))
        title = f"Solved of the question set {name}"
        yield Figure(_slug(f"pass-at-{name}"), title, "iterations learned from", "pass@k", series, UNIT, _BANDS)


def _series(name: str, evaluations: Iterable[EvaluationFinished], k: int) -> Series:
    """A point for each evaluation; of two at one time, the later."""
    found = {float(one.iteration): one for one in evaluations if k in one.pass_at}
    ordered = sorted(found.items())
    band = ((x, *_interval(one.attempts, tuple(sorted(one.successes.values())), k)) for x, one in ordered if one.successes)
    return Series(name, tuple((x, one.pass_at[k]) for x, one in ordered), tuple(band))


@lru_cache(maxsize=4096)
def _interval(attempts: int, successes: tuple[int, ...], k: int) -> ConfidenceInterval:
    """Kept, since a bootstrap takes milliseconds and evaluations do not change."""
    return pass_at_k_interval(attempts, successes, k, BOOTSTRAP_DRAWS)


def _rejections(ended: Iterable[IterationFigures]) -> Figure:
    """Of all seats together."""
    lines: dict[str, list[tuple[float, float | None]]] = {name: [] for name in REASONS}
    for iteration in ended:
        seats = iteration.seats.values()
        if proposed := sum(seat.proposed for seat in seats):
            for name, reasons in REASONS.items():
                lines[name].append((iteration.number, sum(seat.rejected[one] for seat in seats for one in reasons) / proposed))
    series = (_line(name, points) for name, points in lines.items() if any(share for _, share in points))
    return Figure("rejected", "Proposals rejected, by reason", "iteration", "share of proposals", tuple(series), UNIT)


def _rewards(ended: list[IterationFigures]) -> Figure:
    student = _line("student", ((iteration.number, iteration.student_reward.value) for iteration in ended))
    seats = (
        _line(
            f"teacher, {said}",
            ((iteration.number, iteration.seats[seat].reward.value) for iteration in ended if seat in iteration.seats),
        )
        for seat, said in SEATS.items()
    )
    return Figure("reward", "Rewards", "iteration", "mean reward", (student, *seats))


def _learning(wanted: _MetricFigure, updates: Iterable[tuple[str, float, Mapping[str, float | None]]]) -> Figure:
    (metric,) = wanted.metrics.values()
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for policy, x, values in updates:
        lines.setdefault(policy, []).append((x, values.get(metric)))
    series = tuple(_line(policy, points) for policy, points in sorted(lines.items()))
    return Figure(wanted.name, wanted.title, "iteration", wanted.y, series, wanted.limits)


def _speed(summary: RunSummary, ended: Iterable[IterationFigures]) -> Figure:
    """By clocks, so that it differs between equal runs."""
    playing = []
    for iteration in ended:
        seconds = (iteration.ended - iteration.began).total_seconds() if iteration.ended else 0
        playing.append((float(iteration.number), iteration.tokens / seconds if seconds > 0 and iteration.tokens else None))
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for update, speed in zip(summary.updates, summary.speeds, strict=True):
        lines.setdefault(update.policy, []).append((float(update.iteration), speed or None))
    series = _line("playing", playing), *(_line(f"learning, {policy}", points) for policy, points in sorted(lines.items()))
    return Figure("speed", "Throughput", "iteration", "tokens/s", tuple(series), note="by the clocks of the machines")
