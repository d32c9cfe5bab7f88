"""The figures of a run as plain data, from its summary; `events.web.rendering.svg` and `events.export.plots` draw them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from events.export.metrics import iteration_metrics, update_metrics
from events.facts.types import EvaluationFinished, Reason
from events.facts.values import Seat
from events.process.phase_clock import OTHER, PHASES
from events.projections.figures import IterationFigures
from events.projections.run_summary import RunSummary
from events.pure.estimators import CONFIDENCE, ConfidenceInterval, pass_at_k_interval
from events.text.phrases import SEAT_NOUNS, plural

UNIT: Final = (0.0, 1.0)
"""Axis limits of shares."""
SEATS: Final[Mapping[Seat, str]] = {seat: plural(noun) for seat, noun in SEAT_NOUNS.items()}
"""Names of the lines of seats."""
REASONS: Final[Mapping[str, tuple[Reason, ...]]] = {
    "malformed": ("malformed",),
    "broken or unsafe": ("unsafe", "broken", "nondeterministic"),
    "degenerate": ("degenerate",),
    "not novel": ("not_novel",),
    "not of its document": ("copied", "ungrounded"),
    "too easy": ("too_easy",),
    "too hard": ("too_hard",),
}
"""Reasons of rejection, by name of their line."""
BOOTSTRAP_DRAWS: Final = 2_000
_LARGE: Final = 1e300
"""Larger numbers cannot be drawn: their differences are not finite."""
_SLUG: Final = 80
"""Characters of a figure's name, at most."""
_BANDS: Final = f"bands: {CONFIDENCE:.0%} confidence, over questions and answers"


class Series(NamedTuple):
    """A line of a figure."""

    name: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()
    """x, low and high of the confidence interval of points that have one."""


class Figure(NamedTuple):
    """Lines that share their axes."""

    name: str
    """Letters, digits and hyphens: a name of a file or of an anchor."""
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    limits: tuple[float, float] | None = None
    """Of the vertical axis; None for those of the points."""
    note: str = ""


class _MetricFigure(NamedTuple):
    """A figure whose lines are metrics."""

    name: str
    title: str
    y: str
    metrics: Mapping[str, str]
    """Metric by name of the line; metrics of updates have a line for each policy."""
    limits: tuple[float, float] | None = None


def _by_seat(metric: str) -> dict[str, str]:
    return {name: f"teacher/{seat}/{metric}" for seat, name in SEATS.items()}


_PASS_RATE: Final = _MetricFigure(
    "pass-rate", "Pass rate of what is asked", "share passed", _by_seat("pass_rate") | {"practice": "practice/pass_rate"}, UNIT
)
_TEACHER: Final = (
    _MetricFigure("acceptance", "Proposals accepted", "share accepted", _by_seat("accepted"), UNIT),
    _MetricFigure("diversity", "Diversity of questions", "1 - mean largest similarity", _by_seat("diversity"), UNIT),
    _MetricFigure("alignment", "Statement and program agree", "share aligned", _by_seat("aligned"), UNIT),
)
_SECONDS: Final = _MetricFigure(
    "seconds", "Time of an iteration", "seconds", {phase: f"seconds/{phase}" for phase in (*PHASES, OTHER)}
)
_CURRICULUM: Final = _MetricFigure(
    "curriculum",
    "Goalposts with stepping stones",
    "goalposts",
    {"with a lemma": "goalposts/with_lemma", "with a lift": "goalposts/with_lift"},
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
    _MetricFigure("silent", "Zero-advantage groups", "share", {"": "frac_silent_groups"}, UNIT),
)


def run_figures(summary: RunSummary) -> list[Figure]:
    """The figures of a run that have data, in the order of the page."""
    ended = [iteration for iteration in summary.iterations.values() if iteration.ended is not None]
    rows = [(float(iteration.number), iteration_metrics(iteration)) for iteration in ended]
    updates = [(update.policy, float(update.iteration), update_metrics(update)) for update in summary.updates]
    candidates = [
        _gap(summary, rows),
        *_evaluated(summary.evaluations),
        _of(_PASS_RATE, rows),
        _of(_CURRICULUM, rows),
        _of(_TEACHER[0], rows),
        _rejections(ended),
        *(_of(wanted, rows) for wanted in _TEACHER[1:]),
        _rewards(ended),
        _of(_LENGTH, rows),
        _of(_SECONDS, rows),
        *(_learning(wanted, updates) for wanted in _LEARNING),
        _speed(summary, ended),
    ]
    drawn = (figure._replace(series=tuple(line for line in figure.series if line.points)) for figure in candidates)
    return [figure for figure in drawn if figure.series]


def compare_figures(runs: Mapping[str, Sequence[Figure]]) -> list[Figure]:
    """A figure for each line of the runs' figures, with a line for each run, which is empty where the run has none."""
    templates: dict[tuple[str, str], Figure] = {}
    lines: dict[tuple[str, str], dict[str, Series]] = {}
    for run, figures in runs.items():
        for figure in figures:
            for series in figure.series:
                key = figure.name, series.name
                templates.setdefault(key, figure)
                lines.setdefault(key, {})[run] = series._replace(name=run)
    order = list(dict.fromkeys(name for name, _ in templates))
    return [
        figure._replace(
            name=_slug(f"{name}-{line}"),
            title=f"{figure.title}: {line}",
            series=tuple(lines[name, line].get(run, Series(run, ())) for run in runs),
        )
        for (name, line), figure in sorted(templates.items(), key=lambda item: order.index(item[0][0]))
    ]


def drawable(series: Series) -> Series:
    """The line without numbers that cannot be drawn, in the order of x."""
    # Neither infinity nor a number that is none (NaN) is smaller than anything large.
    points = sorted((float(x), float(y)) for x, y in series.points if abs(x) < _LARGE and abs(y) < _LARGE)
    band = sorted(edge for edge in series.band if all(abs(value) < _LARGE for value in edge))
    return Series(series.name, tuple(points), tuple(band))


def axis_range(lines: Iterable[Series], limits: tuple[float, float] | None) -> tuple[float, float]:
    """Range of a vertical axis: all points and bands, the limits, and 0 where it is near."""
    values = [*(limits or ())]
    for line in lines:
        values += [y for _, y in line.points] + [edge for _, *edges in line.band for edge in edges]
    low, high = min(values), max(values)
    if limits is None and 0 < low <= high / 2:
        return 0.0, high
    return (low, 0.0) if limits is None and low / 2 <= high < 0 else (low, high)


def spread_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions of labels: near those wanted (ascending), from low to high, at least a gap apart where there is room."""
    spread: list[float] = []
    for index, want in enumerate(wanted):
        least = max([low, *(last + gap for last in spread[-1:])])
        spread.append(min(max(want, least), high - gap * (len(wanted) - 1 - index)))
    # A second pass, from the top down, moves labels apart that the upper limit pushed together.
    for index in range(len(spread) - 2, -1, -1):
        spread[index] = min(spread[index], spread[index + 1] - gap)
    return spread


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:_SLUG]


_Rows = list[tuple[float, dict[str, float | None]]]


def _line(name: str, points: Iterable[tuple[float, float | None]]) -> Series:
    return Series(name, tuple((float(x), float(y)) for x, y in points if y is not None))


def _of(wanted: _MetricFigure, rows: _Rows) -> Figure:
    series = (_line(name, ((x, values.get(metric)) for x, values in rows)) for name, metric in wanted.metrics.items())
    return Figure(wanted.name, wanted.title, "iteration", wanted.y, tuple(series), wanted.limits)


def _gap(summary: RunSummary, rows: _Rows) -> Figure:
    evaluated = _series("evaluated", [evaluation for evaluation in summary.evaluations if evaluation.name == "goalposts"], 1)
    points = tuple((x, 1 - y) for x, y in evaluated.points)
    band = tuple((x, 1 - high, 1 - low) for x, low, high in evaluated.band)
    best = ((x, None if values["best_share"] is None else 1 - values["best_share"]) for x, values in rows)
    playing = _line("while playing", ((x, values["gap"]) for x, values in rows))
    series = playing, Series("evaluated", points, band), _line("best attempt, by tests", best)
    return Figure("gap", "Gap to the goalposts", "iteration", "mean gap", series, UNIT, _BANDS if band else "")


def _evaluated(evaluations: Iterable[EvaluationFinished]) -> Iterator[Figure]:
    """pass@k of each question set, for the smallest and the largest k."""
    sets: dict[str, list[EvaluationFinished]] = {}
    for evaluation in evaluations:
        sets.setdefault(evaluation.name, []).append(evaluation)
    for name, own in sets.items():
        ks = {k for evaluation in own for k in evaluation.pass_at}
        series = tuple(_series(f"pass@{k}", own, k) for k in sorted({min(ks), max(ks)} if ks else set()))
        title = f"Solved of the question set {name}"
        yield Figure(_slug(f"pass-at-{name}"), title, "iterations learned from", "pass@k", series, UNIT, _BANDS)


def _series(name: str, evaluations: Iterable[EvaluationFinished], k: int) -> Series:
    """A point for each evaluation; of two after one iteration, the later."""
    latest = {float(evaluation.iteration): evaluation for evaluation in evaluations if k in evaluation.pass_at}
    points, band = [], []
    for x, evaluation in sorted(latest.items()):
        points.append((x, evaluation.pass_at[k]))
        if evaluation.successes:
            band.append((x, *_interval(evaluation.attempts, tuple(sorted(evaluation.successes.values())), k)))
    return Series(name, tuple(points), tuple(band))


@lru_cache(maxsize=4096)
def _interval(attempts: int, successes: tuple[int, ...], k: int) -> ConfidenceInterval:
    """Cached: a bootstrap takes milliseconds, and evaluations do not change."""
    return pass_at_k_interval(attempts, successes, k, BOOTSTRAP_DRAWS)


def _rejections(ended: Iterable[IterationFigures]) -> Figure:
    """Shares of all seats together."""
    lines: dict[str, list[tuple[float, float | None]]] = {name: [] for name in REASONS}
    for iteration in ended:
        seats = iteration.seats.values()
        if proposed := sum(seat.proposed for seat in seats):
            for name, reasons in REASONS.items():
                rejected = sum(seat.rejected[reason] for seat in seats for reason in reasons)
                lines[name].append((iteration.number, rejected / proposed))
    series = (_line(name, points) for name, points in lines.items() if any(share for _, share in points))
    return Figure("rejected", "Proposals rejected, by reason", "iteration", "share of proposals", tuple(series), UNIT)


def _rewards(ended: list[IterationFigures]) -> Figure:
    student = _line("student", ((iteration.number, iteration.student_reward.value) for iteration in ended))
    lines = [student]
    for seat, name in SEATS.items():
        rewards = ((iteration.number, iteration.seats[seat].reward.value) for iteration in ended if seat in iteration.seats)
        lines.append(_line(f"teacher, {name}", rewards))
    return Figure("reward", "Rewards", "iteration", "mean reward", tuple(lines))


def _learning(wanted: _MetricFigure, updates: Iterable[tuple[str, float, Mapping[str, float | None]]]) -> Figure:
    (metric,) = wanted.metrics.values()
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for policy, x, values in updates:
        lines.setdefault(policy, []).append((x, values.get(metric)))
    series = tuple(_line(policy, points) for policy, points in sorted(lines.items()))
    return Figure(wanted.name, wanted.title, "iteration", wanted.y, series, wanted.limits)


def _speed(summary: RunSummary, ended: Iterable[IterationFigures]) -> Figure:
    """Measured by clocks, so that equal runs differ."""
    playing = []
    for iteration in ended:
        seconds = (iteration.ended - iteration.began).total_seconds() if iteration.ended else 0
        playing.append((float(iteration.number), iteration.tokens / seconds if seconds > 0 and iteration.tokens else None))
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for update, speed in zip(summary.updates, summary.speeds, strict=True):
        lines.setdefault(update.policy, []).append((float(update.iteration), speed or None))
    series = _line("playing", playing), *(_line(f"learning, {policy}", points) for policy, points in sorted(lines.items()))
    return Figure("speed", "Throughput", "iteration", "tokens/s", tuple(series), note="by the clocks of the machines")
