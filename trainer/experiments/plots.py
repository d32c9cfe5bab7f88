"""Plots as SVG: a grid with a panel for each recipe; lines differ in style, not in colour.

Guarantees: equal lines give equal bytes; text is no markup (`events.export.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from events.export.plots import paper_style, save

MAX_COLUMNS: Final = 4
"""Panels in a row."""
_WIDTH: Final = 2.3
_HEIGHT: Final = 1.7
"""Inches of a panel."""


class PlotLine(NamedTuple):
    """A line in a panel."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str = "-"
    """matplotlib's name: `-`, `--`, `:`, `-.`."""
    grey: bool = False
    """Whether it is drawn in grey, for comparison."""
    band: Sequence[tuple[float, float]] = ()
    """Lower and upper edge at each point; empty for no band."""


class Plot(NamedTuple):
    """What is drawn into a file."""

    file: str
    """Name of the .svg file."""
    description: str
    x: str
    """Label of the horizontal axis."""
    y: str
    panels: Mapping[str, Sequence[PlotLine]]
    """Lines by the panel's title."""
    bounds: tuple[float, float] | None = None
    """Of the vertical axis in all panels; None: those of the lines."""
    title: str = ""
    """The file's text alternative, if that is not its description."""


def draw(folder: Path, plot: Plot) -> None:
    """Write a plot into a folder.

    Raises:
        BadInput: the extra `plots` is not installed.
    """
    panels = plot.panels
    columns = min(MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with paper_style() as canvas:
        figure = canvas(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for axes, (name, lines) in zip(grid, panels.items(), strict=False):
            axes.set_title(name)
            for line in lines:
                handles.setdefault(line.label, _line(axes, line))
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[max(0, len(panels) - columns) : len(panels)]:
            axes.xaxis.set_tick_params(labelbottom=True)
        if plot.bounds is not None:
            grid[0].set_ylim(*plot.bounds)
        figure.supxlabel(plot.x, fontsize=8)
        figure.supylabel(plot.y, fontsize=8)
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
        folder.mkdir(parents=True, exist_ok=True)
        save(figure, folder / plot.file, plot.title or plot.description)


def _line(axes: Any, line: PlotLine) -> Any:
    colour, width = ("0.55", 0.9) if line.grey else ("0", 1.2)
    xs, ys = zip(*line.points, strict=True)
    if line.band:
        axes.fill_between(xs, *zip(*line.band, strict=True), color="0.82", linewidth=0)
    return axes.plot(xs, ys, line.style, color=colour, linewidth=width, marker="." if len(xs) == 1 else None)[0]
