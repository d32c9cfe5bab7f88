"""The plots of a report: learning curves, and measures of the teacher by iteration.

A plot has a panel for each recipe with data; a plot without panels is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

from events.facts.values import Seat
from trainer.experiments.claims import UNGUIDED
from trainer.experiments.outcome import Evaluation
from trainer.experiments.plots import PlotLine, draw
from trainer.experiments.results import Results
from trainer.experiments.teaching import MEASURES, pooled

REFERENCE_STYLES: Final = {UNGUIDED: "--", "base": ":"}
"""Line styles of recipes that are drawn behind every other one."""
SEATS: Final[dict[Seat, tuple[str, str]]] = {"easy": ("lemmas", "-"), "hard": ("lifts", "--"), "open": ("open questions", "-.")}
"""What a seat writes, and its line style."""
TEACHER: Final = "teacher-"
"""Prefix of the files of plots of the teacher."""
MAX_POINTS: Final = 12
"""Most points of a teacher's line; iterations are pooled into as many windows."""


class DrawnPlot(NamedTuple):
    """A plot that was drawn."""

    file: str
    description: str


def draw_plots(results: Results, folder: Path) -> list[DrawnPlot]:
    """Draw every plot into a folder.

    Raises:
        BadInput: two runs were evaluated on different questions, or the extra for plots is not installed.
    """
    return [*_learning(results, folder), *_teaching(results, folder)]


def _learning(results: Results, folder: Path) -> Iterator[DrawnPlot]:
    for name in ("test", "validation"):
        for k in sorted({1, results.k}, reverse=True):
            label = f"{name} pass@{k}, %"
            yield from _curves(results, folder, name, f"{name}-pass-at-{k}.svg", label, partial(_percent, k=k))
    yield from _curves(results, folder, "goalposts", "goalposts.svg", "goalposts solved", lambda each: len(each.solved))


def _percent(evaluation: Evaluation, k: int) -> float:
    return 100 * fmean(evaluation.scores(k))


def _curves(
    results: Results, folder: Path, name: str, file: str, label: str, value: Callable[[Evaluation], float]
) -> Iterator[DrawnPlot]:
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
        draw(folder / file, f"{label}, over the student's samples", "samples of the student", label, panels)
        yield DrawnPlot(file, label)


def _teaching(results: Results, folder: Path) -> Iterator[DrawnPlot]:
    for measure, meaning in MEASURES.items():
        panels = {recipe: lines for recipe in results.cells if (lines := _seats(results, recipe, measure))}
        if panels:
            file = f"{TEACHER}{measure.replace(' ', '-')}.svg"
            draw(folder / file, f"{measure}: {meaning}", "iteration", measure, panels, (-0.03, 1.03))
            yield DrawnPlot(file, f"{measure}: {meaning}")


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
