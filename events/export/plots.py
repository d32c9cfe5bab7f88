"""Figures as files for papers: SVG and PNG by matplotlib, and the numbers beside them.

Guarantees: equal figures give equal bytes; untrusted text is never markup; lines differ by dashes and marks, not by colours
alone. Needs the extra `plots`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from events.export import atomic_folder, requires_extra
from events.export.charts import UNIT, Figure, Series, axis_range, drawable, spread_labels
from events.facts.log import ProgressCallback, ignore_progress
from events.text.safe_text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS: Final = ("svg", "png")
"""Kinds of pictures."""
NUMBERS: Final = "figures.json"
"""All figures of a folder as data."""
STYLE: Final = {
    "svg.hashsalt": "gasp",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": True,
    "savefig.dpi": 200,
}
"""Settings of matplotlib."""
_COLOURS: Final = ("#0b5cad", "#a8480b", "#19692c", "#7b3fa0", "#8a5d00", "#0f6b70")
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 2)))
_MARKS: Final = ("o", "s", "^", "D", "v", "P")
_INCHES: Final = (4.4, 2.2)
_ROW: Final = 0.075
"""Height of a label, as a share of the axis."""
_NAME: Final = 40
"""Characters of a label, at most."""
_MARKED: Final = 24
"""Marks of a line, at most."""


@contextmanager
def paper_style() -> Iterator[type[Canvas]]:
    """Apply the style, and yield matplotlib's class of figures; BadInput if the extra is not installed."""
    with requires_extra("plots"):
        from matplotlib import style
        from matplotlib.figure import Figure as Canvas
    with style.context(["default", STYLE]):
        yield Canvas


def save(canvas: Canvas, file: Path, title: str) -> None:
    """Write a picture in the format of the file's suffix, with a title as its metadata."""
    about = {"Title": title, "Creator": "GASP", "Date": None} if file.suffix == ".svg" else {"Title": title, "Software": "GASP"}
    canvas.savefig(file, format=file.suffix[1:], metadata=about)


def write(
    figures: Sequence[Figure],
    out: Path,
    runs: Sequence[str],
    formats: Sequence[str] = FORMATS,
    on_progress: ProgressCallback = ignore_progress,
) -> list[str]:
    """Write figures of runs into a new or empty folder: pictures, the points of each as CSV, and all as JSON.

    Returns the figures' names, which their files have.

    Raises:
        BadInput: something is there already, or the extra is not installed.
        LogError: the folder cannot be written.
    """
    names = _unique([figure.name for figure in figures])
    with atomic_folder(out) as folder:
        for done, (name, figure) in enumerate(zip(names, figures, strict=True), 1):
            for form in formats:
                _draw(figure, folder / f"{name}.{form}")
            _table(figure, folder / f"{name}.csv")
            on_progress(done, len(figures))
        data = {"runs": list(runs), "figures": [figure_json(figure) for figure in figures]}
        (folder / NUMBERS).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return names


def figure_json(figure: Figure) -> dict[str, Any]:
    """The figure as JSON; None for a number that is not finite."""
    series = [line._asdict() | {"points": _plain(line.points), "band": _plain(line.band)} for line in figure.series]
    return figure._asdict() | {"series": series}


def _plain(rows: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [[value if isfinite(value) else None for value in row] for row in rows]


def _unique(names: Sequence[str]) -> list[str]:
    """Names for files that differ also where a file system ignores case."""
    unique: dict[str, str] = {}
    for wanted in (name or "figure" for name in names):
        numbered = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(names) + 1))
        name = next(name for name in numbered if name.lower() not in unique)
        unique[name.lower()] = name
    return list(unique.values())


def _table(figure: Figure, file: Path) -> None:
    """Write a CSV file with a row for each point."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened, lineterminator="\n")
        rows.writerow(["series", figure.x, figure.y, "low", "high"])
        for series in figure.series:
            edges = {x: (low, high) for x, low, high in series.band}
            rows.writerows([one_line(series.name), x, y, *edges.get(x, ("", ""))] for x, y in series.points)


def _draw(figure: Figure, file: Path) -> None:
    lines = [(index, line) for index, series in enumerate(figure.series) if (line := drawable(series)).points]
    with paper_style() as canvas_of:
        height = max(_INCHES[1], 0.7 + 0.12 * len(lines))
        canvas = canvas_of(figsize=(_INCHES[0], height), layout="constrained")
        axes = canvas.subplots()
        for index, line in lines:
            _line(axes, index, line)
        low, high = axis_range([line for _, line in lines], figure.limits or (None if lines else UNIT))
        room = (high - low) * 0.03 or abs(low) / 10 or 1.0
        axes.set_ylim(low - room, high + room)
        axes.yaxis.grid(visible=True, color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        if all(x.is_integer() for _, line in lines for x, _ in line.points):
            axes.locator_params(axis="x", integer=True)
        axes.set_title(one_line(figure.title), loc="left")
        axes.set_xlabel(one_line(figure.x))
        axes.set_ylabel(one_line(figure.y))
        _names(axes, lines, _ROW * _INCHES[1] / height)
        save(canvas, file, one_line(figure.title))


def _line(axes: Any, index: int, line: Series) -> None:
    colour = _COLOURS[index % len(_COLOURS)]
    xs, ys = zip(*line.points, strict=True)
    if len(line.band) > 1:
        xs, low, high = zip(*line.band, strict=True)
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    if len(line.band) == 1:
        axes.vlines(*line.band[0], color=colour, linewidth=0.7)
    axes.plot(
        *(xs, ys),
        color=colour,
        linestyle=_DASHES[index % len(_DASHES)],
        linewidth=1,
        marker=_MARKS[index % len(_MARKS)],
        markersize=2.5,
        markevery=-(-len(xs) // _MARKED),
        markerfacecolor=colour if index < len(_MARKS) else "white",
        markeredgewidth=0.6,
    )


def _names(axes: Any, lines: Sequence[tuple[int, Series]], row: float) -> None:
    """Label each line beside its last point."""
    low, high = axes.get_ylim()
    ends = sorted(((line.points[-1][1] - low) / (high - low), index, line) for index, line in lines)
    for (_, index, line), at in zip(ends, spread_labels([end for end, _, _ in ends], row, 0.0, 1.0), strict=True):
        name, colour = one_line(line.name, _NAME), _COLOURS[index % len(_COLOURS)]
        axes.annotate(
            name,
            xy=line.points[-1],
            xytext=(1.04, at),
            textcoords="axes fraction",
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.4, "shrinkA": 1, "shrinkB": 3},
        )
