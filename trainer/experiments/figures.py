"""The plots of a report: learning curves, certainty, and by iteration labels, gains of trials and measures of the teacher.

A plot has a panel for each recipe with data; a plot without panels is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isnan
from statistics import fmean
from typing import Final

from events.facts.values import Seat
from events.pure.calibration import BINS
from trainer.experiments.claims import UNGUIDED
from trainer.experiments.experiment_plan import TableName
from trainer.experiments.outcome import QUESTION_SETS, Evaluation
from trainer.experiments.plots import Plot, PlotLine
from trainer.experiments.results import Results
from trainer.experiments.seed_tables import TABLES, estimate, trial_windows, vote_windows, window_name
from trainer.experiments.teacher_measures import MEASURES, pooled

REFERENCE_STYLES: Final = {UNGUIDED: "--", "base": ":"}
"""Line styles of recipes that are drawn behind every other one."""
SEATS: Final[dict[Seat, tuple[str, str]]] = {"easy": ("lemmas", "-"), "hard": ("lifts", "--"), "open": ("open questions", "-.")}
"""What a seat writes, and its line style."""
TEACHER: Final = "teacher-"
"""Prefix of the files of plots of the teacher."""
MAX_POINTS: Final = 12
"""Most points of a teacher's line; iterations are pooled into as many windows."""


def plots_of(results: Results) -> list[Plot]:
    """Every plot of a report.

    Raises:
        BadInput: two runs were evaluated on different questions.
    """
    return [*_learning(results), *_labels(results), *_trials(results), *_certainty(results), *_teaching(results)]


def _learning(results: Results) -> Iterator[Plot]:
    for name in ("test", "validation"):
        for k in sorted({1, results.k}, reverse=True):
            label = f"{name} pass@{k}, %"
            yield from _curves(results, name, f"{name}-pass-at-{k}.svg", label, partial(_percent, k=k))
    yield from _curves(results, "goalposts", "goalposts.svg", "goalposts solved", lambda each: len(each.solved))


def _percent(evaluation: Evaluation, k: int) -> float:
    return 100 * fmean(evaluation.scores(k))


def _curves(results: Results, name: str, file: str, label: str, value: Callable[[Evaluation], float]) -> Iterator[Plot]:
    curves = {recipe: curve for recipe in results.cells if (curve := results.curve(recipe, name, value))}
    lines = {
        recipe: PlotLine("the recipe", [(point.samples, point.value) for point in curve]) for recipe, curve in curves.items()
    }
    behind = {
        recipe: lines[recipe]._replace(label=recipe, style=style, grey=True)
        for recipe, style in REFERENCE_STYLES.items()
        if recipe in lines
    }
    panels = {
        recipe: [
            *(line for other, line in behind.items() if other != recipe),
            lines[recipe]._replace(band=[(point.low, point.high) for point in curve]),
        ]
        for recipe, curve in curves.items()
    }
    if panels:
        yield Plot(file, label, "samples of the student", label, panels, title=f"{label}, over the student's samples")


def _labels(results: Results) -> Iterator[Plot]:
    """Labels that are right by iteration; the band is the interval over seeds."""
    column = "labels that are right"
    if panels := _over_time(results, "labels", column, vote_windows(results)):
        yield Plot("label-accuracy.svg", f"{column}, by iteration", "iteration", "share", panels, (-0.03, 1.03))


def _trials(results: Results) -> Iterator[Plot]:
    """What trials gained by iteration; the band is the interval over seeds."""
    if panels := _over_time(results, "trials", "gain", trial_windows(results)):
        description = "what trials gained on goalposts, by iteration"
        yield Plot("trial-gains.svg", description, "iteration", "gain, share of questions", panels)


def _over_time(results: Results, name: TableName, column: str, windows: Sequence[range]) -> dict[str, list[PlotLine]]:
    """A column of a table whose rows are a recipe's windows, by recipe."""
    cells, least = TABLES[name].cells(results), -1.0 if column in TABLES[name].differences else 0.0
    panels = {}
    for recipe in results.cells:
        shares = [(fmean(window), cells.get((recipe, window_name(window)), {}).get(column)) for window in windows]
        known = [(x, figure) for x, means in shares if means is not None and (figure := estimate(means)) is not None]
        if known:
            band = [] if isnan(known[0][1].low) else [(max(least, each.low), min(1.0, each.high)) for _, each in known]
            panels[recipe] = [PlotLine(column, [(x, each.value) for x, each in known], band=band)]
    return panels


def _certainty(results: Results) -> Iterator[Plot]:
    """Answers that passed, by certainty in bins of equal width; the last evaluations of all seeds together."""
    panels = {recipe: lines for recipe in results.cells if (lines := _reliability(results, recipe))}
    if panels:
        description = "answers that passed, by how certain the student was of them"
        yield Plot("reliability.svg", description, "certainty", "share that passed", panels, (-0.03, 1.03))


def _reliability(results: Results, recipe: str) -> list[PlotLine]:
    answers: dict[str, list[tuple[float, bool]]] = {}
    for outcome in results.outcomes(recipe).values():
        last = {each.result.name: each for each in outcome.calibrations}
        for known in (known for known in QUESTION_SETS if known in last):
            answers.setdefault(known, []).extend(last[known].answers)
    lines = [PlotLine("as certain as right", [(0, 0), (1, 1)], ":", grey=True)] if answers else []
    for (name, own), style in zip(answers.items(), ("-", "--", "-."), strict=False):
        bins: dict[int, list[tuple[float, bool]]] = {}
        for certainty, passed in own:
            bins.setdefault(min(int(certainty * BINS), BINS - 1), []).append((certainty, passed))
        points = [tuple(fmean(column) for column in zip(*each, strict=True)) for _, each in sorted(bins.items())]
        lines.append(PlotLine(results.set_name(name), [(x, y) for x, y in points], style))
    return lines


def _teaching(results: Results) -> Iterator[Plot]:
    for measure, meaning in MEASURES.items():
        panels = {recipe: lines for recipe in results.cells if (lines := _seats(results, recipe, measure))}
        if panels:
            file = f"{TEACHER}{measure.replace(' ', '-')}.svg"
            yield Plot(file, f"{measure}: {meaning}", "iteration", measure, panels, (-0.03, 1.03))


def _seats(results: Results, recipe: str, measure: str) -> list[PlotLine]:
    teachers = [outcome.teaching for outcome in results.outcomes(recipe).values()]
    lines = []
    for seat, (label, style) in SEATS.items():
        numbers = sorted({number for teacher in teachers for number in teacher.seats.get(seat, ())})
        step = -(-len(numbers) // MAX_POINTS) or 1
        windows = [numbers[start : start + step] for start in range(0, len(numbers), step)]
        means = [(fmean(window), pooled(teacher.of(seat, window) for teacher in teachers)[measure].value) for window in windows]
        points = [(x, y) for x, y in means if y is not None]
        if points:
            lines.append(PlotLine(label, points, style))
    return lines
